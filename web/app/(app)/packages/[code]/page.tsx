import type { Metadata } from "next";
import { notFound } from "next/navigation";
import { PackagePage } from "@/features/packages/package-page";
import type { Package } from "@/lib/api";
import { Problem } from "@/lib/problem";
import { load } from "@/lib/server";

type Props = { params: Promise<{ code: string }> };

export async function generateMetadata({ params }: Props): Promise<Metadata> {
  return { title: decodeURIComponent((await params).code) };
}

export default async function Page({ params }: Props) {
  const code = decodeURIComponent((await params).code);
  const one = await load<Package>(`/packages/${encodeURIComponent(code)}`).catch((error: unknown) => {
    if (error instanceof Problem && error.status === 404) notFound();
    throw error;
  });
  return <PackagePage code={code} first={one} />;
}
