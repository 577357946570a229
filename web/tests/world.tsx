import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { render } from "@testing-library/react";
import type { ReactNode } from "react";
import { IntlProvider } from "use-intl";
import type { Me, Project } from "@/lib/api";
import { messagesOf } from "@/lib/messages";
import { ViewerProvider } from "@/lib/viewer";

export const ANA: Me = {
  id: "00000000-0000-7000-8000-000000000001",
  name: "Ana Analyst",
  instance_admin: false,
  instance_auditor: false,
  roles: { "00000000-0000-7000-8000-0000000000aa": ["analyst"] },
  token: null,
};

export const PROJECT = {
  id: "00000000-0000-7000-8000-0000000000aa",
  name: "Demo",
  prefix: "DEM",
  timezone: "Europe/Berlin",
  currency: "EUR",
} as Project;

/** Shows it as it is shown to Ana, in English. */
export function show(what: ReactNode) {
  const client = new QueryClient({ defaultOptions: { queries: { retry: false } } });
  return render(
    <IntlProvider locale="en" messages={messagesOf("en")} timeZone="UTC">
      <QueryClientProvider client={client}>
        <ViewerProvider value={{ me: ANA, project: PROJECT, projects: [PROJECT] }}>{what}</ViewerProvider>
      </QueryClientProvider>
    </IntlProvider>,
  );
}
