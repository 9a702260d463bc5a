/** The work that a sale may ask for before a purchase: altcha's widget does it, in workers of this origin. */

/** As long as a challenge may be worked on. */
const WORK_MAX_MS = 5 * 60_000;
/** Challenges that a device may be too slow for, one after the other. */
const CHALLENGES_MAX = 3;

/** From the first purchase that needs it on. */
async function loadWidget() {
  await import('/demo/altcha.js');
  $altcha.algorithms.set('SCRYPT', () => new Worker('/demo/scrypt.js'));
  // The page says itself what goes on, so the widget shows nothing; nor does it watch the pointer.
  const own = { display: 'invisible', minDuration: 0, humanInteractionSignature: false };
  $altcha.defaults.set({ ...own, timeout: WORK_MAX_MS });
}

/**
 * @param post sends a body to a path of the sale
 * @param say tells the shopper what goes on
 * @param controller calls the work off
 * @returns the reply that has the ticket, or says why there is none; undefined: it was called off
 */
export function earnTicket({ post, say, controller }) {
  const stopped = new Promise((resolve) => {
    controller.signal.addEventListener('abort', () => resolve(undefined));
  });
  return Promise.race([work({ post, say, controller }), stopped]);
}

async function work({ post, say, controller }) {
  say('Your device works for some seconds.');
  for (let count = 1; ; count += 1) {
    const asked = await post('challenge');
    if (asked.status !== 200) return asked;
    let payload;
    try {
      payload = await solve(asked.body, controller);
    } catch (error) {
      console.warn(error);
    }
    if (!payload) return failure();
    const answered = await post('ticket', { payload });
    if (answered.body.reason !== 'expired' || count === CHALLENGES_MAX) return answered;
    say('The work took too long, and begins anew.', true);
  }
}

function failure() {
  const detail = isSecureContext
    ? 'Your browser could not do the work. Nothing was bought.'
    : 'Browsers do the work at an https address alone, or on the machine itself. Nothing was bought.';
  return { status: 0, headers: new Headers(), body: { detail } };
}

/**
 * The solution as the service takes it; undefined: it was called off, or the browser could not do it. One
 * widget a challenge: an old one would still be ending the work before.
 */
async function solve(challenge, controller) {
  await loadWidget();
  const widget = document.createElement('altcha-widget');
  widget.hidden = true;
  const isLoaded = new Promise((resolve) => {
    widget.addEventListener('load', resolve, { once: true });
  });
  document.body.append(widget);
  try {
    await isLoaded;
    widget.configure({ challenge });
    const solved = controller.signal.aborted ? null : await widget.verify({ controller });
    return solved?.payload;
  } finally {
    widget.remove();
  }
}
