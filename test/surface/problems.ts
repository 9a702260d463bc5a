/** Every code that a caller can be refused with. */

import { PROBLEMS } from '../../src/api/http/problem-codes.ts';
import { problemReply } from '../../src/api/http/problem.ts';
import { PROBLEM_CODES } from '../support/api-contract.ts';
import { showReply } from './schemas.ts';
import type { Texts } from './texts.ts';

/** The members that all problems have are shown once. */
export function showProblems({ details }: Texts) {
  const common = problemReply('unauthorized');
  const codes = PROBLEM_CODES.map((code) => {
    const extra = problemReply(code).omit({
      type: true,
      title: true,
      status: true,
      code: true,
      detail: true,
    });
    return [
      code,
      {
        status: PROBLEMS[code].status,
        members: Object.keys(extra.shape).length === 0 ? {} : showReply(extra),
        details: [...(details.get(code) ?? [])].toSorted(),
      },
    ];
  });
  return { document: showReply(common), codes: Object.fromEntries(codes) };
}
