"""A Service of type LoadBalancer does not say which controller makes it.

Without `loadBalancerClass` the controller inside Kubernetes' cloud provider makes a Classic Load Balancer, or with
`aws-load-balancer-type: nlb` a plain NLB; it gets no more than critical fixes. The AWS Load Balancer Controller takes
it with `loadBalancerClass: service.k8s.aws/nlb`, EKS Auto Mode with `eks.amazonaws.com/nlb`. Both can only be set
when the Service is made.

Symptom: a Classic Load Balancer where an NLB was expected

Wrong:

    apiVersion: v1
    kind: Service
    metadata:
      name: edge
      annotations: {service.beta.kubernetes.io/aws-load-balancer-type: nlb}
    spec:
      type: LoadBalancer
      selector: {app: edge}
      ports: [{port: 443}]

Right:

    apiVersion: v1
    kind: Service
    metadata:
      name: edge
      annotations: {service.beta.kubernetes.io/aws-load-balancer-scheme: internal}
    spec:
      type: LoadBalancer
      loadBalancerClass: service.k8s.aws/nlb
      selector: {app: edge}
      ports: [{port: 443}]

Source: AWS Load Balancer Controller documentation, Network Load Balancer; Amazon EKS user guide, network load
  balancing
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity

_OF_AWS = "service.beta.kubernetes.io/aws-load-balancer-"
_TYPE = _OF_AWS + "type"
_OF_CONTROLLER = ("external", "nlb-ip")
"""Values of the type annotation with which the AWS Load Balancer Controller takes a Service."""


def check(cluster: Cluster) -> Iterator[Problem]:
    for service in cluster.of("Service", group=""):
        if service.get("spec", "type") != "LoadBalancer" or service.get("spec", "loadBalancerClass") is not None:
            continue
        is_of_aws = any(key.startswith(_OF_AWS) for key in service.annotations)
        if is_of_aws and service.annotations.get(_TYPE) not in _OF_CONTROLLER:
            yield Problem(
                service,
                ("spec", "loadBalancerClass"),
                "no loadBalancerClass: the cloud provider's own controller may make this load balancer",
                hint="loadBalancerClass: service.k8s.aws/nlb (of EKS Auto Mode: eks.amazonaws.com/nlb)",
            )


RULE = Rule(
    "STK-EDGE-019", Severity.INFO, "A Service does not say which controller makes its load balancer", check, __name__
)
