/**
 * How the workflows read what they are sent. A signal that was sent by hand in an encoding that cannot be
 * read counts as one without an argument: an error would keep its workflow from going on for ever.
 */

import {
  defaultPayloadConverter,
  type ConverterHint,
  type Payload,
  type PayloadConverter,
  type SerializationContext,
} from '@temporalio/common';

const NOTHING = defaultPayloadConverter.toPayload(undefined);

export const payloadConverter: PayloadConverter = {
  toPayload: (value, context, hint) => defaultPayloadConverter.toPayload(value, context, hint),
  fromPayload<T>(payload: Payload, context?: SerializationContext, hint?: ConverterHint<T>): T {
    try {
      return defaultPayloadConverter.fromPayload<T>(payload, context, hint);
    } catch {
      return defaultPayloadConverter.fromPayload<T>(NOTHING, context);
    }
  },
};
