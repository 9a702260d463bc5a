/** The sandbox provider's book on disk: restarts, lines cut short, files that are no book. */

import { appendFile, readFile, writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { entrySchema } from '../../sandbox/book/entries.ts';
import { buildSessionRequest, call, connect, ORDER_NO, pay, withWorld } from './sandbox-world.ts';

test('what the sandbox took survives a restart', () =>
  withWorld(async ({ startSandbox, bookFile }) => {
    const before = await startSandbox({ bookFile });
    const request = buildSessionRequest();
    const session = await connect(before).openSession(request);
    const voided = await connect(before).openSession(buildSessionRequest({ sessionId: 'session-2' }));
    await connect(before).voidSession(voided.providerSessionId);
    await pay(before, session.providerSessionId);
    const payments = await call(before, 'GET', '/v1/payments');
    await before.stop();

    const after = await startSandbox({ bookFile });
    expect(await call(after, 'GET', '/v1/payments')).toEqual(payments);
    expect(await pay(after, session.providerSessionId)).toMatchObject({ body: { code: 'already_paid' } });
    expect(await pay(after, voided.providerSessionId)).toMatchObject({ body: { code: 'session_voided' } });
    expect((await connect(after).openSession(request)).providerSessionId).toBe(session.providerSessionId);
  }));

test('an event that was not delivered before a restart is delivered after it', () =>
  withWorld(async ({ receiver, startSandbox, bookFile }) => {
    // The delay is longer than the test: only the restart can bring the event.
    const before = await startSandbox({ bookFile, retryDelaysMs: [3_600_000] });
    receiver.answers.push(503);
    const { providerSessionId } = await connect(before).openSession(buildSessionRequest());
    await pay(before, providerSessionId);
    const refused = await receiver.next();
    await before.stop();

    const after = await startSandbox({ bookFile });
    const taken = await receiver.next();
    expect(taken.body).toBe(refused.body);
    expect(connect(after).verifyNotice(taken.body, taken.headers)).toMatchObject({
      kind: 'payment_succeeded',
      payment: { orderNo: ORDER_NO },
    });
    await after.stop();

    const third = await startSandbox({ bookFile });
    await third.stop();
    expect(receiver.waiting()).toBe(0);
  }));

test('a line that a crash cut short is dropped, and the book goes on after it', () =>
  withWorld(async ({ startSandbox, bookFile }) => {
    const before = await startSandbox({ bookFile });
    await connect(before).openSession(buildSessionRequest());
    await before.stop();
    const whole = await readFile(bookFile, 'utf8');
    await appendFile(bookFile, '{"kind":"session_op');

    const after = await startSandbox({ bookFile });
    await connect(after).openSession(buildSessionRequest({ sessionId: 'session-2' }));
    await after.stop();
    const lines = (await readFile(bookFile, 'utf8')).trimEnd().split('\n');
    expect(`${lines[0]}\n`).toBe(whole);
    expect(lines.map((line) => entrySchema.parse(JSON.parse(line)).kind)).toEqual([
      'session_opened',
      'session_opened',
    ]);
  }));

test('a file that is no book stops the start and says where', () =>
  withWorld(async ({ startSandbox, bookFile }) => {
    await writeFile(bookFile, '{"kind":"recipe"}\n');
    await expect(startSandbox({ bookFile })).rejects.toThrow(`${bookFile}:1 is not a line of this book`);
  }));
