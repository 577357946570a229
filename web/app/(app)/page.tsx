import { Home } from "@/features/home/home";

export default function Page() {
  return <Home />;
}
