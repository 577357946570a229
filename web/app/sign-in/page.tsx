import type { Metadata } from "next";
import { safeNext } from "@/features/session/safe-next";
import { SignInPage } from "@/features/session/sign-in-page";
import type { Schemas } from "@/lib/api";
import { load } from "@/lib/server";

export const metadata: Metadata = { title: "Sign in" };

export default async function Page({
  searchParams,
}: {
  searchParams: Promise<{ next?: string | string[] }>;
}) {
  const { next } = await searchParams;
  // Signing in by password works without them, and says itself what is wrong when the API is down.
  const providers = await load<Schemas["ProviderList"]>("/auth/providers").catch(() => ({ items: [] }));
  return <SignInPage next={safeNext(typeof next === "string" ? next : null)} providers={providers.items} />;
}
