# Two images: the product's, one for every process of it (compose or the orchestrator says which by its command),
# and with `--target sandbox` the sandbox payment provider's, which has no place in production.
# Debian, not Alpine: the Temporal SDK's native core is built for glibc.
ARG NODE_IMAGE=node:24.21.0-bookworm-slim

FROM ${NODE_IMAGE} AS sources
WORKDIR /app
# Alone in their layer: an edit of the sources does not install again.
COPY package.json package-lock.json ./
RUN npm ci --no-audit --no-fund
COPY . .

FROM sources AS build
# The native core of the Temporal SDK comes for five platforms, of which Linux reads two: the others are 80 MB.
RUN npm run build && npm prune --omit=dev --no-audit --no-fund \
  && rm -r node_modules/@temporalio/core-bridge/releases/*-apple-* node_modules/@temporalio/core-bridge/releases/*-windows-*
# The core trusts the system's authorities, and the slim image has none: without them it reaches no Temporal by TLS.
RUN node -p 'require("node:tls").rootCertificates.join("\n")' > ca-certificates.crt

FROM sources AS build-sandbox
RUN npm run build:sandbox && npm prune --omit=dev --no-audit --no-fund

FROM ${NODE_IMAGE} AS run
ENV NODE_ENV=production \
    NODE_OPTIONS=--enable-source-maps
WORKDIR /app
STOPSIGNAL SIGTERM

FROM run AS sandbox
# The sandbox provider keeps its book here; a new named volume takes this folder's owner.
RUN install --directory --owner=node /var/lib/holdfast
COPY --from=build-sandbox /app/package.json ./
COPY --from=build-sandbox /app/node_modules ./node_modules
COPY --from=build-sandbox /app/dist ./dist
USER 1000:1000
CMD ["node", "dist/sandbox/main.js"]

# Last, so that it is what `docker build .` makes.
FROM run AS product
ENV WORKFLOW_BUNDLE=/app/dist/workflow-bundle.js
COPY --from=build /app/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
COPY lua ./lua
COPY pages ./pages
COPY src/mysql/schema.sql ./src/mysql/
# The user `node`, by its number, so that a kubelet can see that it is not root.
USER 1000:1000
# Of the API; who starts another process of the image gives it its own.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.API_PORT || 3000}/healthz`).then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))"]
CMD ["node", "dist/src/api/main.js"]
