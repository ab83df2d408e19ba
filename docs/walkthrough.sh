#!/usr/bin/env bash
# The loop on a table of your own, as the README shows it: run, predict, drift, retrain. It works in a state root of its
# own, which it makes anew, and ends the server that it starts.
#
#   docs/walkthrough.sh credit.csv          (the credit table of the tests: 4,454 rows, target Status)
set -euo pipefail
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
table=$(readlink -f "${1:?give the path of credit.csv}")
python=${PYTHON:-$project/.venv/bin/python}
export MLOPS_HOME=${WALKTHROUGH_HOME:-$(mktemp -d)/state} MLOPS_DEPLOYMENT__MODEL_SERVE_PORT=${PORT:-5000} COLUMNS=100
server=http://127.0.0.1:$MLOPS_DEPLOYMENT__MODEL_SERVE_PORT
rm -rf "$MLOPS_HOME" && mkdir -p "$MLOPS_HOME"
cd "$MLOPS_HOME"

say() { printf '\n$ %s\n' "$*"; }
main() { say "python main.py $*"; "$python" "$project/main.py" "$@" || [ $? = 3 ]; }

head -n 3501 "$table" >customers.csv                                   # the first 3,500 rows
{ head -n 1 "$table"; tail -n +3502 "$table"; } >later.csv             # the rest arrives later
awk -F, -v OFS=, 'NR > 1 { if ($10 != "") $10 *= 1.35 } 1' later.csv >richer.csv   # and here every income has grown

main init --data customers.csv --target Status
main run
"$python" "$project/main.py" serve >server.log 2>&1 &
trap 'kill %1 2>/dev/null; wait' EXIT
for _ in $(seq 100); do curl -sf "$server/ready" >/dev/null && break; sleep 0.1; done

say "curl $server/predict -H 'Content-Type: application/json' -d '{…}'"
curl -s "$server/predict" -H 'Content-Type: application/json' -d '{"Seniority": 9, "Home": "rent", "Time": 60, "Age": 30,
  "Marital": "married", "Records": "no", "Job": "freelance", "Expenses": 73, "Income": 129.0, "Assets": 0.0, "Debt": null,
  "Amount": 800, "Price": 846}' | "$python" -m json.tool
say "curl $server/predict -H 'Content-Type: application/json' -d '{\"Seniority\": \"nine\"}'"
curl -s "$server/predict" -H 'Content-Type: application/json' -d '{"Seniority": "nine"}' | "$python" -m json.tool | sed -n 1,20p

main drift --data later.csv
main drift --data richer.csv --fail-on-drift
mkdir -p data/incoming && cp later.csv data/incoming/
main retrain
main models history
main status
