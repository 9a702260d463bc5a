/**
 * A function of a module that a process binds is used outside it. The tool that finds unused exports takes
 * such a module for used as a whole.
 */

import { dirname, join, normalize } from 'node:path';
import { expect, test } from 'vitest';
import { listFiles, readText } from '../house/sources.ts';

const LIST = 'src/stores/bound.ts';

const bound = [...readText(LIST).matchAll(/^import \* as \w+ from '(.+)';$/gm)].map(([, path = '']) =>
  normalize(join(dirname(LIST), path)),
);
const texts = ['src', 'test'].flatMap(listFiles).map((file) => ({ file, text: readText(file) }));

test.each(bound)('%s exports nothing that it alone uses', (module) => {
  const exported = [...readText(module).matchAll(/^export (?:async )?function (\w+)/gm)];
  const unused = exported.filter(
    ([, name]) => !texts.some(({ file, text }) => file !== module && new RegExp(`\\b${name}\\b`).test(text)),
  );
  expect(unused.map(([, name]) => name)).toEqual([]);
});
