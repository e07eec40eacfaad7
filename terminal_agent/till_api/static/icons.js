// Line drawings of 24 by 24, always beside words.

import { h } from "./dom.js";

const PATHS = {
  card: "M3 6.5h18v11H3zM3 10h18M6.5 14h4",
  waves: "M8 9a5 5 0 0 1 0 6M11.5 6.5a9 9 0 0 1 0 11M15 4a13 13 0 0 1 0 16",
  check: "M4.5 12.5l5 5 10-11",
  warning: "M12 4l9 16H3zM12 10v4.5M12 17.2v.3",
  cross: "M6 6l12 12M18 6L6 18",
  lift: "M12 20V6M6 11l6-6 6 6",
  offline: "M3 3l18 18M5 12.5a10 10 0 0 1 4-2.4M15 10.1a10 10 0 0 1 4 2.4M8.5 16a5 5 0 0 1 7 0M12 19.5v.1",
  online: "M2 9a14 14 0 0 1 20 0M5 12.5a10 10 0 0 1 14 0M8.5 16a5 5 0 0 1 7 0M12 19.5v.1",
  reader: "M5 3.5h14v17H5zM9 9.5a4.5 4.5 0 0 1 6 0M10.5 12.5a2.2 2.2 0 0 1 3 0M12 16v.1",
  loud: "M4 9.5h3.5L12 5.5v13l-4.5-4H4zM15.5 9a4 4 0 0 1 0 6M18.3 6.5a8 8 0 0 1 0 11",
  muted: "M4 9.5h3.5L12 5.5v13l-4.5-4H4zM16 9.5l5 5M21 9.5l-5 5",
  auto: "M12 3.5a8.5 8.5 0 1 0 0 17zM12 3.5a8.5 8.5 0 0 1 0 17",
  light: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8M12 2.5v2M12 19.5v2M2.5 12h2M19.5 12h2M5.3 5.3l1.4 1.4M17.3 17.3l1.4 1.4M5.3 18.7l1.4-1.4M17.3 6.7l1.4-1.4",
  dark: "M20 14.5A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.5 10.5z",
  erase: "M9 6h11.5v12H9l-5.5-6zM12 9.7l4.5 4.6M16.5 9.7L12 14.3",
  clock: "M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17M12 7.5V12l3 2",
  star: "M12 3.8l2.5 5.3 5.7.7-4.2 4 1.1 5.8-5.1-2.9-5.1 2.9 1.1-5.8-4.2-4 5.7-.7z",
  person: "M12 4a4 4 0 1 0 0 8 4 4 0 0 0 0-8M4.5 20.5a7.5 7.5 0 0 1 15 0",
  back: "M9 7.5H15a5 5 0 0 1 0 10H8M9 3.5l-4 4 4 4",
  screen: "M3.5 5h17v11h-17zM9 20h6M12 16v4",
};

export function icon(name, props = {}) {
  return h("svg.icon", { viewBox: "0 0 24 24", "aria-hidden": "true", ...props }, h("path", { d: PATHS[name] }));
}
