/**
 * How the calls are generated from the OpenAPI document: a file for shoppers and one for the back office, so
 * that a page does not load what is the staff's.
 */

import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('.', import.meta.url));
const document = fileURLToPath(new URL('../../pages/openapi.json', import.meta.url));

function generate(name, isOfFile) {
  return {
    input: { target: document, override: { transformer: (api) => prune(api, isOfFile) } },
    output: {
      target: `${root}src/generated/${name}.ts`,
      client: 'fetch',
      urlEncodeParameters: true,
      mode: 'single',
      override: {
        enumGenerationType: 'union',
        mutator: { path: `${root}src/send.ts`, name: 'send', extension: '.ts' },
        fetch: { includeHttpResponseReturnType: true, forceSuccessResponse: true },
      },
    },
  };
}

/** The paths of one file, and the schemas that they lead to. */
function prune(api, isOfFile) {
  const paths = Object.fromEntries(Object.entries(api.paths).filter(([path]) => isOfFile(path)));
  const schemas = {};
  const follow = (value) => {
    if (typeof value !== 'object' || value === null) return;
    const name = /^#\/components\/schemas\/(.+)$/.exec(value.$ref ?? '')?.[1];
    if (name !== undefined && !(name in schemas)) {
      schemas[name] = api.components.schemas[name];
      follow(schemas[name]);
    }
    for (const each of Object.values(value)) follow(each);
  };
  follow(paths);
  // What is not of schemas is small, and stays.
  const { webhooks: _, ...rest } = api;
  return { ...rest, paths, components: { ...api.components, schemas } };
}

// orval takes its configuration from the default export.
// oxlint-disable-next-line import/no-default-export
export default {
  shop: generate('shop', (path) => /^\/v1\/(?:orders|sales)(?:\/|$)/.test(path)),
  staff: generate('staff', (path) => path.startsWith('/v1/admin/')),
};
