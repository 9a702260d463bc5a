/** The API dies in a call of a shopper, of staff or of the provider. */

import { apiPoints } from './api-points.ts';
import { testPoints } from './run-points.ts';
import { salePoints } from './sale-points.ts';

testPoints([...apiPoints, ...salePoints]);
