/** Bounds the wait for an answer of Redis where its caller can go on without one. */

/** An answer takes a millisecond. Without one for so long its node is away. */
const ANSWER_TIMEOUT_MS = 300;

/** @throws when there is no answer in time */
export function answerInTime<T>(answer: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const giveUp = () => reject(new Error(`no answer of Redis within ${ANSWER_TIMEOUT_MS} ms`));
    // An answer that came while this process stalled is read first.
    const timer = setTimeout(() => setImmediate(giveUp), ANSWER_TIMEOUT_MS);
    answer.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}
