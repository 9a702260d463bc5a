/** The demo page, and a token for whoever opens it. Never in production. */

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { Context } from 'koa';
import { ulid } from 'ulidx';
import { signToken } from './auth.ts';

export interface DemoOptions {
  saleId: string;
  temporalUiUrl: string | undefined;
}

const require = createRequire(import.meta.url);

export function createDemoRoutes(options: DemoOptions, jwtSecret: string) {
  const page = readFileSync(require.resolve('#pages/demo.html'), 'utf8');
  return {
    getPage(ctx: Context): void {
      ctx.type = 'html';
      ctx.body = page;
    },

    /** Everybody who opens the page is a shopper of their own. */
    async postToken(ctx: Context): Promise<void> {
      const userId = `shopper-${ulid().toLowerCase()}`;
      const token = await signToken(jwtSecret, userId, '12h');
      ctx.body = { token, userId, saleId: options.saleId, temporalUiUrl: options.temporalUiUrl ?? null };
    },
  };
}
