/**
 * Bounds the bytes of the bodies that a process keeps at once, over all connections. When it is full the body
 * that has taken longest to arrive gives way: an honest one arrives at once, and one that never ends is not
 * to keep others out.
 */

/** What a piece costs beside its bytes: a sender may send each byte as a chunk of its own. */
const PIECE_BYTES = 128;

/** The part of one body. */
interface BodyShare {
  /** Counts a further piece. May refuse this body or others. */
  add: (bytes: number) => void;
  /** It has arrived, and will be worked on: it does not give way any more. */
  arrived: () => void;
  /** Gives everything back. */
  end: () => void;
}

export interface BodyBudget {
  /** @param giveWay is called at most once, and then nothing of the body may be kept */
  begin: (giveWay: () => void) => BodyShare;
}

export function createBodyBudget(bytesMax: number, onShed: () => void): BodyBudget {
  let bytesKept = 0;
  /** Those that have not arrived, the longest under way first. */
  const arriving = new Set<Part>();

  function end(part: Part): void {
    arriving.delete(part);
    bytesKept -= part.bytes;
    part.bytes = 0;
  }

  return {
    begin(giveWay) {
      const part: Part = { bytes: 0, giveWay };
      arriving.add(part);
      return {
        add(bytes) {
          if (!arriving.has(part)) return;
          part.bytes += bytes + PIECE_BYTES;
          bytesKept += bytes + PIECE_BYTES;
          for (const oldest of arriving) {
            if (bytesKept <= bytesMax) return;
            end(oldest);
            onShed();
            oldest.giveWay();
          }
        },
        arrived: () => void arriving.delete(part),
        end: () => end(part),
      };
    },
  };
}

interface Part {
  bytes: number;
  giveWay: () => void;
}
