/** The project's own lint rules, as a plugin of oxlint; `.oxlintrc.json` names this file. */

import { dirname, join, relative } from 'node:path';
import { brokenWalls } from './walls.mjs';

/** A shorter text cannot say what a file is for. */
const SHORTEST_HEADER_CHARS = 20;

/** A file begins with a documentation comment, before its imports. */
const fileHeader = {
  create(context) {
    return {
      Program() {
        const source = context.sourceCode.getText();
        const comment = /^(?:#!.*\n)?\/\*\*([^]*?)\*\//.exec(source)?.[1] ?? '';
        const text = comment.replaceAll(/^\s*\*/gm, '').trim();
        if (text.length >= SHORTEST_HEADER_CHARS) return;
        const start = { line: 1, column: 0 };
        context.report({
          loc: { start, end: start },
          message: 'A file begins with a /** … */ comment that says what the file is for.',
        });
      },
    };
  },
};

/** Prose in code is read beside the code, so it is no wider. */
const WIDEST_COMMENT_COLUMNS = 110;

/**
 * No line of a comment is wider than the formatter lets code be; the formatter itself leaves comments as they
 * are.
 */
const commentWidth = {
  create(context) {
    return {
      Program() {
        const lines = context.sourceCode.getText().split('\n');
        for (const { loc, value } of context.sourceCode.getAllComments()) {
          for (let line = loc.start.line; line <= loc.end.line; line += 1) {
            // A directive of a tool, or an address, cannot be broken.
            if (lines[line - 1].length <= WIDEST_COMMENT_COLUMNS || /^ ?(ox|eslint|https?:)/.test(value))
              continue;
            const place = { line, column: 0 };
            context.report({
              loc: { start: place, end: place },
              message: `A comment has at most ${WIDEST_COMMENT_COLUMNS} columns.`,
            });
          }
        }
      },
    };
  },
};

const ASSERT_MODULES = ['assert', 'assert/strict', 'node:assert', 'node:assert/strict'];

/** One form of the import alone, so that `assert` means the same in every file. */
const assertImport = {
  create(context) {
    return {
      ImportDeclaration(node) {
        if (!ASSERT_MODULES.includes(node.source.value)) return;
        const [first, ...others] = node.specifiers;
        const isTheForm =
          node.source.value === 'node:assert/strict' &&
          others.length === 0 &&
          first?.type === 'ImportDefaultSpecifier' &&
          first.local.name === 'assert';
        if (isTheForm) return;
        context.report({ node, message: "One form: import assert from 'node:assert/strict'." });
      },
    };
  },
};

/** What a file must not import: `walls.mjs`. */
const walls = {
  create(context) {
    const file = relative(context.cwd, context.filename);
    const check = (node) => {
      if (!node.source) return;
      const { value } = node.source;
      const imported = value.startsWith('.') ? join(dirname(file), value) : value;
      for (const { because } of brokenWalls(file, imported, bringsTypes(node))) {
        context.report({ node, message: because });
      }
    };
    return {
      ImportDeclaration: check,
      ExportNamedDeclaration: check,
      ExportAllDeclaration: check,
    };
  },
};

function bringsTypes({ importKind, exportKind, specifiers = [] }) {
  if (importKind === 'type' || exportKind === 'type') return true;
  return specifiers.length > 0 && specifiers.every((each) => (each.importKind ?? each.exportKind) === 'type');
}

// oxlint takes a plugin from the default export alone.
// oxlint-disable-next-line import/no-default-export
export default {
  meta: { name: 'house' },
  rules: {
    'file-header': fileHeader,
    'comment-width': commentWidth,
    'assert-import': assertImport,
    walls,
  },
};
