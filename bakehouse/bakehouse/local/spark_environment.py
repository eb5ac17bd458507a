"""What a part that runs Spark finds in its environment: Java, and the jars by path.

    python -m bakehouse.local.spark_environment

fetches both ahead of the first start, as an image does when it is built.
"""

from __future__ import annotations

import os

from bakehouse.local.jars import ensure_jars
from bakehouse.local.java import find_java
from bakehouse.output import complain

JARS_VARIABLE = "BAKEHOUSE_SPARK_JARS"


def spark_environment() -> dict[str, str]:
    """This process's environment, completed; an image brings its own jars and Java."""
    environment = dict(os.environ)
    if JARS_VARIABLE not in environment:
        java = find_java()
        found = ensure_jars(lambda words: complain(words, style="dim"), java=java, uses=("spark",))
        environment["JAVA_HOME"] = str(java.home)
        environment[JARS_VARIABLE] = ",".join(map(str, found.spark))
    return environment


if __name__ == "__main__":
    spark_environment()
