"""A hook of schemathesis: counts the answers by operation, status and code, into answers.json."""

import atexit
import json
from collections import Counter

import schemathesis

answers = Counter()


@schemathesis.hook
def after_call(context, case, response):
    is_problem = response.headers.get("content-type", [""])[0].startswith("application/problem+json")
    code = response.json()["code"] if is_problem else None
    answers[(case.operation.label, response.status_code, code)] += 1


@atexit.register
def write_answers():
    with open("answers.json", "w") as file:
        json.dump([[*answer, count] for answer, count in sorted(answers.items(), key=str)], file)
