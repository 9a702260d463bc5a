/** An issuer of tokens: private keys, and an HTTP server that publishes the public ones as a JWK Set. */

import { once } from 'node:events';
import { createServer, type RequestListener, type ServerResponse } from 'node:http';
import { exportJWK, generateKeyPair, SignJWT, type JWK } from 'jose';
import { z } from 'zod';

const addressSchema = z.object({ port: z.int() });

export const ISSUER = 'https://issuer.test/';

export interface IssuerKey {
  kid: string;
  publicJwk: JWK;
  /** A good token of ada for an hour, each part to be spoilt; a claim that is undefined is left out. */
  sign: (claims?: Record<string, unknown>, header?: Record<string, unknown>) => Promise<string>;
}

export type Issuer = Awaited<ReturnType<typeof openIssuer>>;

export async function createIssuerKey(kid: string, alg = 'ES256'): Promise<IssuerKey> {
  const { privateKey, publicKey } = await generateKeyPair(alg);
  const publicJwk = { ...(await exportJWK(publicKey)), kid, alg, use: 'sig' };
  return {
    kid,
    publicJwk,
    sign(claims = {}, header = {}) {
      const nowSeconds = Math.floor(Date.now() / 1_000);
      const all = { iss: ISSUER, sub: 'ada', iat: nowSeconds, exp: nowSeconds + 3_600, ...claims };
      return new SignJWT(all).setProtectedHeader({ alg, kid, ...header }).sign(privateKey, {
        // jose signs no header that it does not know as critical.
        crit: { rule: true },
      });
    },
  };
}

/** Publishes these keys until it is given others. */
export async function openIssuer(...keys: IssuerKey[]) {
  let published = keys;
  let readings = 0;
  const held: ServerResponse[] = [];
  const publish: RequestListener = (_, response) => {
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify({ keys: published.map(({ publicJwk }) => publicJwk) }));
  };
  let answer = publish;
  const server = createServer((request, response) => {
    readings += 1;
    answer(request, response);
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const { port } = addressSchema.parse(server.address());

  return {
    url: `http://127.0.0.1:${port}/jwks`,
    /** How often the keys were asked for. */
    readings: () => readings,
    publish: (...others: IssuerKey[]): void => void (published = others),
    /** From now on each request is answered so. */
    answerWith: (other: RequestListener): void => void (answer = other),
    /** From now on no request is answered. */
    freeze: (): void => void (answer = (_, response) => void held.push(response)),
    /** Answers again, also those that wait. */
    thaw(): void {
      answer = publish;
      for (const response of held.splice(0)) publish(response.req, response);
    },
    async close(): Promise<void> {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
