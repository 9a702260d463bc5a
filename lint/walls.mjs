/** The walls of the house: what a file must not import. The rule `house/walls` holds them. */

const TOOLS = /^(?:stack|bench|chaos|test|sandbox|provider-check)\//;
/** Statements and scripts: the suffix says which store a file touches. */
const SQL = /^src\/mysql\/|\.sql\.ts$/;
const REDIS = /^src\/redis\/|\.redis\.ts$/;
const NOUNS = /^src\/(?:orders|sales|money|parked|events|push|status|providers)\//;
const PROGRAMS = /^src\/(?:api|workers|audit|ops)\//;
/** Rules without a store; workflows and providers load some of them. */
const RULES =
  /^src\/(?:limits|deployment|orders\/(?:order|content)|sales\/sale|money\/payment|events\/event)\.ts$/;
/** What acts on several nouns and both stores. */
const ACTORS = /^src\/(?:engine|activities|reconcile|workflows)\//;
/** Without the reconciliation, which has statements and scripts of its own. */
const ACTORS_WITHOUT_STATEMENTS = /^src\/(?:engine|activities|workflows)\//;
const STORES = /^src\/stores\//;

/**
 * Files, and what they must not import: files by their paths from the repository's root, packages by their
 * names; with `typesToo` not even their types.
 */
export const WALLS = [
  {
    of: /^src\//,
    not: [TOOLS],
    typesToo: true,
    because: 'The product knows nothing of its tools, tests and the sandbox provider.',
  },
  {
    of: /^(?:stack|bench|chaos)\//,
    not: [/^test\//],
    typesToo: true,
    because: 'Tools do not depend on tests.',
  },
  {
    of: /^(?:sandbox|provider-check)\//,
    not: [/^(?:stack|bench|chaos|test)\//, SQL, REDIS, STORES, ACTORS, PROGRAMS],
    typesToo: true,
    because:
      'The sandbox provider and its judge share the wire and the frame of a process with the product, and nothing else.',
  },
  {
    of: /^packages\//,
    not: [/^(?:src|sandbox|provider-check|stack|bench|chaos|test)\//],
    typesToo: true,
    because: 'The client knows the service by its OpenAPI document alone.',
  },
  {
    of: /^provider-check\//,
    not: [/^sandbox\//],
    typesToo: true,
    because: 'A judge of providers knows none of them.',
  },
  {
    of: /^(?:src|sandbox)\//,
    except: REDIS,
    not: ['ioredis'],
    typesToo: true,
    because: 'Redis is touched in src/redis and in files that end with .redis.ts.',
  },
  {
    of: /^(?:src|sandbox)\//,
    except: SQL,
    not: ['mysql2', 'mysql2/promise'],
    typesToo: true,
    because: 'MySQL is touched in src/mysql and in files that end with .sql.ts.',
  },
  {
    of: RULES,
    not: [SQL, REDIS, STORES, ACTORS, PROGRAMS],
    typesToo: true,
    because: 'A rule knows no store.',
  },
  {
    of: STORES,
    not: [ACTORS_WITHOUT_STATEMENTS, PROGRAMS],
    typesToo: true,
    because: 'The seam of the stores knows nothing of what uses it.',
  },
  {
    of: /^src\/(?:mysql|redis)\//,
    not: [ACTORS, PROGRAMS],
    typesToo: true,
    because: 'A client of a store knows nothing of what uses it.',
  },
  { of: SQL, not: [REDIS], typesToo: true, because: 'A statement knows nothing of Redis.' },
  { of: REDIS, not: [SQL], typesToo: true, because: 'A script knows nothing of MySQL.' },
  {
    of: new RegExp(`${SQL.source}|${REDIS.source}`),
    not: [STORES, /^src\/providers\/(?!pace\.redis)/, ACTORS_WITHOUT_STATEMENTS],
    typesToo: true,
    because: 'Statements and scripts import rules, and statements or scripts.',
  },
  {
    of: NOUNS,
    not: [PROGRAMS, ACTORS],
    typesToo: true,
    because: 'A noun knows neither the processes nor the workflows that work on it.',
  },
  {
    of: /^src\/providers\/(?!pace\.redis)/,
    not: [STORES, SQL, REDIS],
    typesToo: true,
    because: 'A provider is asked and answers; what follows is decided and stored elsewhere.',
  },
  {
    of: /^src\/workflows\//,
    not: [/^src\/(?!workflows\/|orders\/order\.ts$)/],
    typesToo: false,
    because: 'Workflows run in an isolate: they import types, and of values those of src/orders/order.ts.',
  },
  {
    of: /^src\/(?!workflows\/)/,
    not: [/^src\/workflows\/(?!contract\.ts$)/],
    typesToo: true,
    because: "Only the workflows' contract is shared.",
  },
  {
    of: /^src\/engine\//,
    not: [SQL, REDIS, STORES, /^src\/(?:providers|activities|reconcile|api|workers|audit|ops)\//],
    typesToo: false,
    because: "The engine imports rules and the workflows' contract.",
  },
  {
    of: /^src\/reconcile\//,
    not: [/^src\/activities\//, PROGRAMS],
    typesToo: true,
    because: 'The steps of the reconciliation are used by activities, and by operators without Temporal.',
  },
  {
    of: /^src\/activities\//,
    not: [/^src\/engine\//, PROGRAMS],
    typesToo: true,
    because: 'Activities are thin over stores and providers.',
  },
  {
    of: /^src\/api\//,
    not: [/^src\/(?:activities|workers|audit|ops)\//],
    typesToo: true,
    because: 'The API stores orders and records intents; the workflow acts.',
  },
  {
    of: /^src\/workers\//,
    not: [/^src\/(?:api|audit|ops)\//],
    typesToo: true,
    because: 'Workers and API meet in the stores.',
  },
  {
    of: /^src\/audit\//,
    not: [/^src\/(?:activities|api|workers|reconcile|ops)\//],
    typesToo: true,
    because: 'A judge does not share the sums of the accused.',
  },
];

/**
 * The walls that an import breaks.
 * @param {string} file from the repository's root
 * @param {string} imported likewise, or a package
 * @param {boolean} isType whether it brings types alone
 */
export function brokenWalls(file, imported, isType) {
  return WALLS.filter(
    ({ of, except, not, typesToo }) =>
      of.test(file) &&
      except?.test(file) !== true &&
      (typesToo || !isType) &&
      not.some((each) => (typeof each === 'string' ? each === imported : each.test(imported))),
  );
}
