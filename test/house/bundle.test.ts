/** What a worker evaluates again for each workflow: a package more costs each order. */

import { expect, test } from 'vitest';
import { closureOf, readSources } from './sources.ts';

test('the workflows load the SDK and rules of their own alone', () => {
  const sources = readSources();
  const entries = ['src/workflows/index.ts', 'src/workflows/payload-converter.ts'];
  const files = closureOf(sources, entries);
  const packages = files.flatMap((file) =>
    (sources.get(file)?.imports ?? []).flatMap(({ to, isFile, isTypeOnly }) =>
      isFile || isTypeOnly ? [] : [to],
    ),
  );
  expect([...new Set(packages)].toSorted()).toEqual(['@temporalio/common', '@temporalio/workflow']);
  expect(files.filter((file) => !file.startsWith('src/workflows/'))).toEqual(['src/orders/order.ts']);
});

test('nothing loads OpenTelemetry but `import()`, where traces are on', () => {
  const all = [...readSources().values()].flatMap(({ file, imports }) =>
    imports.flatMap(({ to, isTypeOnly }) => (to.startsWith('@opentelemetry/') ? [{ file, isTypeOnly }] : [])),
  );
  expect(all.length).toBeGreaterThan(0);
  expect(all.filter(({ isTypeOnly }) => !isTypeOnly)).toEqual([]);
});
