/** The rules by which the audit finds that the stores disagree; the words of a finding are sentences. */

import { RULE_NAMES } from '../../src/audit/run-audit.ts';

export function showRules(): readonly string[] {
  return RULE_NAMES;
}
