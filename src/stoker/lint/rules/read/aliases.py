"""Aliases or nesting make the document larger than is read.

Ten lines of YAML can mean a billion values, each alias written out. The API server and kubectl refuse such
documents, too.

Symptom: yaml: document contains excessive aliasing

Wrong:

    a: &a [x,x,x,x,x,x,x,x,x,x]
    b: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]
    c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]
    d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]
    e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]
    f: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]
    g: [*f,*f,*f,*f,*f,*f,*f,*f,*f,*f]

Right:

    apiVersion: v1
    kind: ConfigMap
    metadata: {name: small}

Source: kubernetes/kubernetes#83253 (CVE-2019-11253)
"""

from stoker.lint.rule import Rule, Severity

RULE = Rule(
    "STK-READ-004",
    Severity.ERROR,
    "Aliases or nesting make the document larger than is read",
    lambda cluster: (),
    __name__,
)
KINDS = ("aliases", "depth")
