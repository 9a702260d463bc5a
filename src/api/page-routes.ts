/** What the API serves to people: a page about each code of a refusal; and the headers of every page. */

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { extname } from 'node:path';
import helmet from 'helmet';
import type { Context, Middleware } from 'koa';
import { meaningOf, PROBLEMS, titleOf, type ProblemCode } from './http/problem-codes.ts';
import { Problem, problemReply } from './http/problem.ts';
import { entityTagOf, isKnown } from './http/request.ts';

const require = createRequire(import.meta.url);

/**
 * A file, read once.
 * @param file in the folder of pages, or the URL of one of a package
 * @param cacheControl where a cache may keep it
 */
export function serveFile(file: string | URL, cacheControl?: string): (ctx: Context) => void {
  let bytes: Buffer | undefined;
  let tag = '';
  return (ctx) => {
    if (!bytes) {
      bytes = readFileSync(file instanceof URL ? file : require.resolve(`#pages/${file}`));
      tag = entityTagOf(bytes);
    }
    if (cacheControl !== undefined) ctx.set('Cache-Control', cacheControl);
    ctx.set('ETag', tag);
    if (isKnown(tag, ctx.get('If-None-Match'))) {
      ctx.status = 304;
      return;
    }
    ctx.type = extname(String(file));
    ctx.body = bytes;
  };
}

/**
 * Headers of a page: nothing but what this API serves is loaded or asked, no script stands in the page, and
 * no other site may frame it. Whether it comes by TLS is the proxy's to say.
 * @param more what this page is allowed beside it, by directive
 */
export function protectPage(more: Readonly<Record<string, string[]>> = {}): Middleware {
  const protect = helmet({
    contentSecurityPolicy: {
      useDefaults: false,
      directives: {
        defaultSrc: ["'none'"],
        scriptSrc: ["'self'"],
        styleSrc: ["'self'"],
        imgSrc: ["'self'", 'data:'],
        connectSrc: ["'self'"],
        formAction: ["'self'"],
        baseUri: ["'none'"],
        frameAncestors: ["'none'"],
        ...more,
      },
    },
    strictTransportSecurity: false,
  });
  return async (ctx, next) => {
    await new Promise<void>((resolve, reject) => {
      protect(ctx.req, ctx.res, (error) => (error === undefined ? resolve() : reject(error)));
    });
    await next();
  };
}

/** A day: what a page says changes with a release at most. */
export const PAGE_CACHE_CONTROL = 'public, max-age=86400';

/** GET /problems/:code: where the `type` of a problem document leads. */
export function getProblemPage(ctx: Context & { params: Record<string, string> }): void {
  const { code = '' } = ctx.params;
  if (!isCode(code)) throw new Problem('no_such_resource');
  ctx.set('Cache-Control', PAGE_CACHE_CONTROL);
  ctx.type = 'html';
  ctx.body = renderPage(code);
}

function isCode(code: string): code is ProblemCode {
  return Object.hasOwn(PROBLEMS, code);
}

function renderPage(code: ProblemCode): string {
  const { status, remedy } = PROBLEMS[code];
  const common = problemReply('internal_error').shape;
  const extras = Object.keys(problemReply(code).shape).filter((name) => !Object.hasOwn(common, name));
  const members = extras.map((name) => `<code>${name}</code>`).join(', ');
  return `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8" />
    <meta name="viewport" content="width=device-width, initial-scale=1" />
    <title>${titleOf(code)}</title>
    <link rel="icon" href="data:," />
    <link rel="stylesheet" href="/problems/page.css" />
  </head>
  <body>
    <main>
      <h1>${titleOf(code)}</h1>
      <p><code>${code}</code>, status ${status}</p>
      <h2>What it means</h2>
      <p>${toHtml(meaningOf(code))}</p>
      <h2>What to do</h2>
      <p>${toHtml(remedy)}.</p>
      <h2>Members beside those that all problems have</h2>
      <p>${members === '' ? 'None.' : members}</p>
    </main>
  </body>
</html>
`;
}

/** The little Markdown that the table of codes has. Links lead into docs/api.md: of those the words stay. */
function toHtml(text: string): string {
  const html = text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll(/\[([^\]]+)\]\([^)]+\)/g, '$1')
    .replaceAll(/\*\*([^*]+)\*\*/g, '<strong>$1</strong>')
    .replaceAll(/`([^`]+)`/g, '<code>$1</code>');
  return html.charAt(0).toUpperCase() + html.slice(1);
}
