/** The chart of a part: a bar for each contestant, rendered as SVG without a browser. */

import { init } from 'echarts';
import type { Medians } from './judgement.ts';
import type { Column, Role } from './part.ts';
import { formatFigure } from './tables.ts';

const WIDTH = 880;
const BAR_HEIGHT = 34;
const MARGIN = 40;
/** Room for the value behind the longest bar. */
const VALUE_WIDTH = 110;
const FONT_SIZE = 13;
/** Of a sans-serif letter, as a share of the font size. */
const LETTER_WIDTH = 0.56;

/** A grey that has a contrast of more than 4 on white and on the dark pages of the usual hosts. */
const TEXT = '#747c87';
const COLOURS: Record<Role, string> = {
  ours: '#e8590c',
  variant: '#f0a070',
  limit: '#5b6b82',
  reference: '#5b6b82',
  peer: '#8fa3bf',
};

/** @returns an SVG document without a background */
export function renderChart(options: {
  title: string;
  column: Column;
  contestants: readonly { name: string; role: Role }[];
  medians: Medians;
}): string {
  const { title, column, contestants, medians } = options;
  const height = MARGIN + contestants.length * BAR_HEIGHT + 10;
  const chart = init(null, null, { renderer: 'svg', ssr: true, width: WIDTH, height });
  const longestName = Math.max(...contestants.map(({ name }) => name.length));
  chart.setOption({
    animation: false,
    backgroundColor: 'transparent',
    textStyle: { fontFamily: 'system-ui, sans-serif', color: TEXT },
    title: {
      text: `${title}: ${column.label}`,
      left: 0,
      textStyle: { fontSize: FONT_SIZE + 1, color: TEXT },
    },
    grid: {
      left: longestName * FONT_SIZE * LETTER_WIDTH + 14,
      right: VALUE_WIDTH,
      top: MARGIN,
      bottom: 6,
    },
    xAxis: { type: 'value', min: 0, axisLabel: { show: false }, splitLine: { show: false } },
    yAxis: {
      type: 'category',
      inverse: true,
      data: contestants.map(({ name }) => name),
      axisTick: { show: false },
      axisLine: { lineStyle: { color: TEXT } },
      axisLabel: { color: TEXT, fontSize: FONT_SIZE, interval: 0 },
    },
    series: [
      {
        type: 'bar',
        barWidth: '62%',
        data: contestants.map(({ name, role }) => {
          const value = medians.get(name)?.[column.key];
          return {
            value: value ?? 0,
            itemStyle: { color: COLOURS[role], borderRadius: [0, 3, 3, 0] },
            label: {
              show: true,
              position: 'right',
              formatter: formatFigure(value, column),
              color: role === 'ours' ? COLOURS.ours : TEXT,
              fontSize: FONT_SIZE,
              fontWeight: role === 'ours' ? 'bold' : 'normal',
            },
          };
        }),
      },
    ],
  });
  const svg = chart.renderToSVGString();
  chart.dispose();
  return `${withStableNames(svg)}\n`;
}

/** The library counts its names over all charts of a process: an unchanged one would differ each time. */
function withStableNames(svg: string): string {
  const names = new Map<string, string>();
  return svg.replaceAll(/\bzr\d+-\w+(?:-\d+)?/g, (name) => {
    const stable = names.get(name) ?? `n${names.size}`;
    names.set(name, stable);
    return stable;
  });
}
