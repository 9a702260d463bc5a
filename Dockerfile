# One image for every process of ours; compose or the orchestrator says which by its command.
# Debian, not Alpine: the Temporal SDK's native core is built for glibc.
ARG NODE_IMAGE=node:20.19.5-bookworm-slim

FROM ${NODE_IMAGE} AS build
WORKDIR /app
# Alone in their layer: an edit of the sources does not install again.
COPY package.json package-lock.json ./
# A lock written on one platform may lack the optional builds for this one; npm install then adds those, and changes nothing else.
RUN npm ci --no-audit --no-fund || npm install --no-save --no-audit --no-fund
COPY . .
RUN npm run build && npm prune --omit=dev --no-audit --no-fund

FROM ${NODE_IMAGE}
ENV NODE_ENV=production \
    NODE_OPTIONS=--enable-source-maps \
    WORKFLOW_BUNDLE=/app/dist/workflow-bundle.js
# The sandbox provider keeps its book here; a new named volume takes this folder's owner.
RUN install --directory --owner=node /var/lib/holdfast
WORKDIR /app
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
COPY lua ./lua
COPY pages ./pages
USER node
STOPSIGNAL SIGTERM
CMD ["node", "dist/src/api/main.js"]
