"use client";

import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { type ReactNode, useState } from "react";
import { Toaster } from "sonner";
import { IntlProvider } from "use-intl";
import type { Locale, Messages } from "@/lib/messages";
import { asProblem } from "@/lib/problem";

const FRESH = 30_000;
const TRIES = 2;

/** What every page needs, signed in or not: words, and a memory of what the API said. */
export function Providers({
  locale,
  messages,
  children,
}: {
  locale: Locale;
  messages: Messages;
  children: ReactNode;
}) {
  const [client] = useState(
    () =>
      new QueryClient({
        defaultOptions: {
          queries: {
            staleTime: FRESH,
            retry: (count, error) => count < TRIES && asProblem(error).isPassing,
          },
        },
      }),
  );
  return (
    <IntlProvider locale={locale} messages={messages} timeZone="UTC">
      <QueryClientProvider client={client}>
        {children}
        <Toaster position="bottom-right" />
      </QueryClientProvider>
    </IntlProvider>
  );
}
