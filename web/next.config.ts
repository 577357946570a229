import type { NextConfig } from "next";

const config: NextConfig = {
  output: "standalone",
  outputFileTracingRoot: import.meta.dirname,
  // What is compressed is held back until it is worth a block, and a stream of changes with it.
  compress: false,
  poweredByHeader: false,
  images: { unoptimized: true },
  outputFileTracingExcludes: { "*": ["node_modules/@img/**", "node_modules/sharp/**"] },
  typedRoutes: false,
  devIndicators: false,
};

export default config;
