/**
 * The list of a SELECT in the names of its row: `orderNo` is the column `order_no`, and `createdAtMs` is
 * `created_at`.
 * @param expressions what a member is where it is no column of its name
 */
export function selectList(
  { shape }: { shape: Record<string, unknown> },
  expressions: Readonly<Record<string, string>> = {},
): string {
  const columnOf = (name: string): string =>
    name.replace(/AtMs$/, 'At').replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  return Object.keys(shape)
    .map((name) => `${expressions[name] ?? columnOf(name)} AS ${name}`)
    .join(', ');
}
