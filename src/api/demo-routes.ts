/** The demo page, and a shopper's token for each browser that opens it. Never in production. */

import type { Context } from 'koa';
import { ulid } from 'ulidx';
import { z } from 'zod';
import type { SignToken } from './http/auth.ts';
import { PAGE_CACHE_CONTROL, serveFile } from './page-routes.ts';

/** The demo's alone. */
export const tokenReply = z.strictObject({
  token: z.string(),
  userId: z.string(),
  saleId: z.string(),
  temporalUiUrl: z.string().nullable(),
});
type TokenReply = z.infer<typeof tokenReply>;

export interface DemoOptions {
  saleId: string;
  temporalUiUrl: string | undefined;
  sign: SignToken;
}

export function createDemoRoutes({ saleId, temporalUiUrl, sign }: DemoOptions) {
  return {
    getPage: serveFile('demo.html'),
    getStyle: serveFile('demo.css'),
    getScript: serveFile('demo.js'),
    getWork: serveFile('work.js'),
    /** Altcha's, without the workers for what our challenges never ask for. */
    getWidget: serveFile(new URL(import.meta.resolve('altcha/external')), PAGE_CACHE_CONTROL),
    getSolver: serveFile(new URL(import.meta.resolve('altcha/workers/scrypt')), PAGE_CACHE_CONTROL),

    /** Each tab is a shopper of its own. */
    async postToken(ctx: Context): Promise<void> {
      const userId = `shopper-${ulid().toLowerCase()}`;
      const token = await sign(userId, '12h');
      ctx.body = { token, userId, saleId, temporalUiUrl: temporalUiUrl ?? null } satisfies TokenReply;
    },
  };
}
