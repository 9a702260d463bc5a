/**
 * What the work before a purchase costs: a device, in Node and with altcha's widget in Chromium, and the API,
 * which makes a challenge and checks its answer. All of it in CPU time, which on a free core is the time that
 * one worker takes: so a busy machine changes little.
 */

import { hash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { solveChallenge, type Challenge } from 'altcha-lib';
import { deriveKey } from 'altcha-lib/algorithms/scrypt';
import { chromium } from 'playwright-core';
import { ulid } from 'ulidx';
import { z } from 'zod';
import { createVerification } from '../src/api/calls/verification.ts';
import { locateChromium } from '../stack/install/chromium.ts';

const COSTS_KIB = [64, 256, 1_024, 4_096];
/** Each cost is worked at for so long, by the clock. */
const ROUND_MS = 60_000;
/** Far more tries than a figure needs. */
const CHALLENGES_MAX = 100;
/** One of 256 tries solves a challenge: so many it takes on average, and so many are enough for 95 of 100. */
const [TRIES_MEAN, TRIES_P95] = [256, 766];
/** Of making a challenge and of checking an answer. */
const REPEATS = 100;
const USER = 'a-shopper';
const SALE = 'a-sale';
const AHEAD_MS = 60 * 60_000;

const verification = createVerification(['a-secret-of-this-measurement-alone'], 'holdfast');
const solutionSchema = z.object({ counter: z.int(), derivedKey: z.string() });
type Solution = z.infer<typeof solutionSchema>;
interface Device {
  name: string;
  solve(challenge: Challenge): Promise<Solution>;
  /** Spent so far, in milliseconds. */
  cpuMs(): Promise<number>;
}

/** A page of its own, and what the demo page loads. */
const FILES: Record<string, [string, string | URL]> = {
  '/': ['text/html', '<!doctype html><title>work</title><script type="module" src="/measure.js"></script>'],
  '/measure.js': [
    'text/javascript',
    `import { earnTicket } from '/demo/work.js';
     globalThis.solve = async (challenge) => {
       let payload;
       const post = async (path, body) => {
         payload = body?.payload;
         return { status: 200, body: path === 'challenge' ? challenge : {} };
       };
       await earnTicket({ post, say() {}, controller: new AbortController() });
       $altcha.defaults.set({ workers: 1 });
       return JSON.parse(atob(payload)).solution;
     };`,
  ],
  '/demo/work.js': ['text/javascript', new URL(import.meta.resolve('#pages/work.js'))],
  '/demo/altcha.js': ['text/javascript', new URL(import.meta.resolve('altcha/external'))],
  '/demo/scrypt.js': ['text/javascript', new URL(import.meta.resolve('altcha/workers/scrypt'))],
};

export async function work(): Promise<void> {
  for (const costKib of COSTS_KIB) await measureDevice(node, costKib);
  await withChromium(async (browser) => {
    // The first one loads the widget.
    await browser.solve(await makeChallenge(64));
    for (const costKib of COSTS_KIB) await measureDevice(browser, costKib);
  });
  for (const costKib of COSTS_KIB) await measureApi(costKib);
}

async function measureDevice({ name, solve, cpuMs }: Device, costKib: number): Promise<void> {
  const tookMs: number[] = [];
  let tries = 0;
  const endsAtMs = performance.now() + ROUND_MS;
  while (tookMs.length < CHALLENGES_MAX && performance.now() < endsAtMs) {
    const challenge = await makeChallenge(costKib);
    const sinceMs = await cpuMs();
    tries += (await solve(challenge)).counter + 1;
    tookMs.push((await cpuMs()) - sinceMs);
  }
  const totalMs = tookMs.reduce((sum, each) => sum + each, 0);
  const triedMs = totalMs / tries;
  const p95Ms = tookMs.toSorted((a, b) => a - b)[Math.floor(tookMs.length * 0.95)] ?? 0;
  console.log(
    `${name}, ${costKib} KiB: a try ${triedMs.toFixed(2)} ms (of ${tries}), so ${seconds(triedMs * TRIES_MEAN)} a ` +
      `challenge, 95 of 100 within ${seconds(triedMs * TRIES_P95)}; ${tookMs.length} challenges took ` +
      `${seconds(totalMs / tookMs.length)}, 95 of 100 up to ${seconds(p95Ms)}`,
  );
}

async function measureApi(costKib: number): Promise<void> {
  const challenge = await makeChallenge(costKib);
  const solution = await node.solve(challenge);
  const payload = Buffer.from(JSON.stringify({ challenge, solution })).toString('base64');
  const makingMs = await meanOf(() => makeChallenge(costKib));
  const checkingMs = await meanOf(async () => {
    const { kind } = await verification.check(payload, USER, SALE);
    if (kind !== 'solved') throw new Error('a solution was refused');
  });
  console.log(
    `API, ${costKib} KiB: a challenge ${makingMs.toFixed(2)} ms, a check ${checkingMs.toFixed(2)} ms`,
  );
}

async function meanOf(run: () => Promise<unknown>): Promise<number> {
  const sinceMs = await node.cpuMs();
  for (let count = 0; count < REPEATS; count += 1) await run();
  return ((await node.cpuMs()) - sinceMs) / REPEATS;
}

const seconds = (ms: number): string => `${(ms / 1_000).toFixed(2)} s`;

function makeChallenge(costKib: number): Promise<Challenge> {
  const endsAtMs = Date.now() + AHEAD_MS;
  const user = hash('sha256', USER, 'base64url');
  const about = { id: ulid(), user, sale: SALE, begins: 0, ends: Math.floor(endsAtMs / 1_000) };
  return verification.challenge(about, costKib, endsAtMs);
}

const node: Device = {
  name: 'Node',
  async solve(challenge) {
    const solution = await solveChallenge({ challenge, deriveKey });
    if (!solution) throw new Error('Node found no solution');
    return solution;
  },
  async cpuMs() {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1_000;
  },
};

async function withChromium(use: (device: Device) => Promise<void>): Promise<void> {
  const executablePath = await locateChromium(console.log);
  if (executablePath === undefined) throw new Error('No Chromium found: install one and run again.');
  const server = createServer((request, response) => {
    const [type, content] = FILES[request.url ?? ''] ?? [];
    response.writeHead(type === undefined ? 404 : 200, { 'Content-Type': type ?? 'text/plain' });
    response.end(content instanceof URL ? readFileSync(content) : content);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = z.object({ port: z.int() }).parse(server.address());
  const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu'] });
  try {
    const session = await browser.newBrowserCDPSession();
    const page = await browser.newPage();
    await page.goto(`http://127.0.0.1:${address.port}/`);
    await use({
      name: `Chromium ${browser.version()}, one worker`,
      solve: async (challenge) =>
        solutionSchema.parse(await page.evaluate(`solve(${JSON.stringify(challenge)})`)),
      async cpuMs() {
        const { processInfo } = await session.send('SystemInfo.getProcessInfo');
        const ofPages = processInfo.filter(({ type }) => type === 'renderer');
        return ofPages.reduce((sum, { cpuTime }) => sum + cpuTime * 1_000, 0);
      },
    });
  } finally {
    await browser.close();
    server.close();
  }
}
