/**
 * `npm run make:viewer`: makes pages/viewer.js, the page of /docs, from its package. It is no dependency: the
 * package asks for Node 22, the file is for browsers. With --check it only says whether the file is the same.
 */

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const VERSION = '1.72.1';
const BANNER = `/*! @scalar/api-reference ${VERSION}, MIT License, Copyright (c) 2023-present Scalar */\n`;

const file = fileURLToPath(new URL('../pages/viewer.js', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'viewer-'));
try {
  const inFolder = { cwd: folder, encoding: 'utf8' };
  const packed = execFileSync('npm', ['pack', '--silent', `@scalar/api-reference@${VERSION}`], inFolder);
  const inPackage = 'package/dist/browser/standalone.js';
  execFileSync('tar', ['-xzf', packed.trim(), inPackage], inFolder);
  // Its source map is not served.
  const made = readFileSync(join(folder, inPackage), 'utf8').replace(/\n\/\/# sourceMappingURL=.*\s*$/, '\n');
  if (!process.argv.includes('--check')) {
    writeFileSync(file, BANNER + made);
  } else if (readFileSync(file, 'utf8') !== BANNER + made) {
    console.error('pages/viewer.js is not what `npm run make:viewer` makes');
    process.exitCode = 1;
  }
} finally {
  rmSync(folder, { recursive: true });
}
