/** A world that registers its own clean-up is closed after its tests, the last opened first. */

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { closeLater } from './close-later.ts';

const closed: string[] = [];
const open = (name: string): void => closeLater(async () => closed.push(name));

beforeAll(() => {
  open('one of the file');
  open('another of the file');
});
afterAll(() => expect(closed).not.toContain('another of the file'));

describe('in a describe', () => {
  beforeAll(() => open('one of the describe'));
  afterAll(() => expect(closed).toEqual(['another of the test', 'one of the test']));

  test('what a test opens is open while it runs', () => {
    open('one of the test');
    open('another of the test');
    expect(closed).toEqual([]);
  });
});

test('what a describe opened is closed before the next test', () => {
  expect(closed).toEqual(['another of the test', 'one of the test', 'one of the describe']);
});
