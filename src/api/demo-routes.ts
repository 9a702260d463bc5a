/** The demo page, and a shopper's token for each browser that opens it. Never in production. */

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { extname } from 'node:path';
import type { Context } from 'koa';
import { ulid } from 'ulidx';
import { z } from 'zod';
import type { SignToken } from './http/auth.ts';

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

const require = createRequire(import.meta.url);

export function createDemoRoutes({ saleId, temporalUiUrl, sign }: DemoOptions) {
  return {
    getPage: serve('demo.html'),
    getStyle: serve('demo.css'),
    getScript: serve('demo.js'),

    /** Each tab is a shopper of its own. */
    async postToken(ctx: Context): Promise<void> {
      const userId = `shopper-${ulid().toLowerCase()}`;
      const token = await sign(userId, '12h');
      ctx.body = { token, userId, saleId, temporalUiUrl: temporalUiUrl ?? null } satisfies TokenReply;
    },
  };
}

/** Read once, at start. */
function serve(file: string) {
  const text = readFileSync(require.resolve(`#pages/${file}`), 'utf8');
  return (ctx: Context): void => {
    ctx.type = extname(file);
    ctx.body = text;
  };
}
