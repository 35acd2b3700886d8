"""The triggers of KEDA and their parameters."""

from stoker.catalog.keda import nearest_type, trigger, trigger_types


def test_every_trigger_is_there() -> None:
    assert len(trigger_types()) == 76
    assert {"redis-streams", "aws-sqs-queue", "aws-cloudwatch", "prometheus", "cron", "cpu"} <= set(trigger_types())
    assert trigger("redis-stream") is None


def test_a_parameter_says_where_it_may_come_from() -> None:
    streams = trigger("redis-streams")
    assert streams is not None
    address, stream, ca = (streams.parameters[name] for name in ("address", "stream", "ca"))
    assert (address.from_metadata, address.from_env, address.from_auth) == (True, True, True)
    assert (stream.from_metadata, stream.from_env, stream.from_auth) == (True, False, False)
    assert (ca.from_metadata, ca.from_env, ca.from_auth) == (False, False, True)


def test_defaults_and_what_is_required() -> None:
    streams = trigger("redis-streams")
    assert streams is not None
    assert (streams.parameters["streamLength"].default, streams.parameters["streamLength"].is_required) == ("5", False)
    assert streams.parameters["lagCount"].optional
    assert streams.parameters["stream"].is_required


def test_a_key_of_the_metadata_names_its_parameter() -> None:
    streams = trigger("redis-streams")
    assert streams is not None
    assert streams.written_as("addressFromEnv") is streams.parameters["address"]
    assert streams.written_as("address") is streams.parameters["address"]
    assert streams.written_as("streamFromEnv") is None
    assert streams.written_as("ca") is None
    assert streams.written_as("adress") is None
    assert "addressFromEnv" in streams.metadata_keys()
    assert "ca" not in streams.metadata_keys()


def test_the_key_that_was_meant() -> None:
    streams, sqs = trigger("redis-streams"), trigger("aws-sqs-queue")
    assert streams is not None
    assert sqs is not None
    assert streams.nearest("adressFromEnv") == "addressFromEnv"
    assert sqs.nearest("queueUrl") == "queueURL"
    assert sqs.nearest("colour") is None
    assert nearest_type("redis-stream") == "redis-streams"
    assert nearest_type("aws-sqs") == "aws-sqs-queue"


def test_values_and_words_of_the_end() -> None:
    kafka, cpu, temporal = trigger("kafka"), trigger("cpu"), trigger("temporal")
    assert kafka is not None
    assert cpu is not None
    assert temporal is not None
    assert kafka.parameters["offsetResetPolicy"].allowed == ("latest", "earliest")
    kind = cpu.parameters["type"]
    assert (kind.from_metadata, cpu.written_as("type")) == (False, kind)
    assert kind.deprecated is not None
    assert "metricType" in kind.deprecated
    assert temporal.parameters["buildId"].from_metadata
    assert temporal.parameters["buildId"].announced is not None


def test_one_way_to_give_a_parameter_may_end_alone() -> None:
    influx = trigger("influxdb")
    assert influx is not None
    token = influx.parameters["authToken"]
    assert (token.from_metadata, token.from_env, token.from_auth) == (False, True, True)
    assert token.deprecated is not None
    assert influx.written_as("authTokenFromEnv") is token


def test_lists_say_what_stands_between_their_items() -> None:
    cloudwatch, kafka = trigger("aws-cloudwatch"), trigger("apache-kafka")
    assert cloudwatch is not None
    assert kafka is not None
    assert cloudwatch.parameters["dimensionName"].separator == ";"
    assert kafka.parameters["partitionLimitation"].range_separator == "-"
