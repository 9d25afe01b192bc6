// Judge cases of test vectors with the small verifier: `node judge.mjs VERIFIER < vectors.json > answers.json`.
import { readFileSync } from "node:fs";

const { judge, loadTrust } = await import(process.argv[2]);
const { trust, cases } = JSON.parse(readFileSync(0, "utf8"));
const answers = cases.map((each) => {
  const records = each.records.map((record) => Buffer.from(record, "hex"));
  return judge(records, loadTrust(each.trust.map((name) => trust[name])));
});
process.stdout.write(JSON.stringify(answers));
