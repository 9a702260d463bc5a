/** The demo page, and a shopper's token for each browser that opens it. Never in production. */

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { extname } from 'node:path';
import type { Context } from 'koa';
import { ulid } from 'ulidx';
import { signToken } from './http/auth.ts';
import type { TokenReply } from './http/replies.ts';

export interface DemoOptions {
  saleId: string;
  temporalUiUrl: string | undefined;
}

const require = createRequire(import.meta.url);

export function createDemoRoutes(options: DemoOptions, jwtSecret: string) {
  return {
    getPage: serve('demo.html'),
    getStyle: serve('demo.css'),
    getScript: serve('demo.js'),

    /** Each tab is a shopper of its own. */
    async postToken(ctx: Context): Promise<void> {
      const userId = `shopper-${ulid().toLowerCase()}`;
      const token = await signToken(jwtSecret, userId, '12h');
      const { saleId, temporalUiUrl = null } = options;
      ctx.body = { token, userId, saleId, temporalUiUrl } satisfies TokenReply;
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
