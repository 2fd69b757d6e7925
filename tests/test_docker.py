"""What can be told of the files in docker/ without a container engine."""

from pathlib import Path

import pytest
import yaml

DOCKER = Path(__file__).parents[1] / "docker"

pytestmark = pytest.mark.skipif(not DOCKER.is_dir(), reason="needs a checkout")


def containers():
    """Return every service of the compose file and every container of the Kubernetes file, by name."""
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))["services"]
    (deployment,) = (one for one in kubernetes() if one["kind"] == "Deployment")
    return services, deployment["spec"]["template"]["spec"]


def kubernetes():
    return list(yaml.safe_load_all((DOCKER / "kubernetes.yaml").read_text(encoding="utf-8")))


def test_services_are_guarded_limited_and_watched():
    """A service could write into the models, take the whole machine, or be down without a word."""
    services, pod = containers()
    for name, service in services.items():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"]), name
        assert all(volume.endswith(":ro") for volume in service["volumes"]), name
        assert service["read_only"] and service["cap_drop"] == ["ALL"] and service["mem_limit"] and service["cpus"]
        assert service["healthcheck"]["test"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"]
    assert {"cpu", "memory"} <= set(container["resources"]["limits"])
    assert all(one.get("readOnly") or one["name"] == "tmp" for one in container["volumeMounts"])


def test_images_are_pinned_and_the_same():
    """Tomorrow's image may not load today's models."""
    services, pod = containers()
    image = services["serving"]["image"]
    assert image.count(":") == 1 and image.rpartition(":")[2][0].isdigit()
    assert pod["containers"][0]["image"] == image
    dockerfile = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
    assert "ARG BASE=python:3.11." in dockerfile and "USER 10001" in dockerfile


def test_mounted_files_and_options_exist():
    """The container would stop at once, with a line that nobody sees."""
    services, pod = containers()
    mounted = {}
    for volume in services["serving"]["volumes"]:
        source, target, _ = volume.split(":")
        assert (DOCKER / source).exists(), source
        mounted[target] = DOCKER / source
    arguments = {word.partition("=")[0]: word.partition("=")[2] for word in services["serving"]["command"]}
    assert pod["containers"][0]["args"] == services["serving"]["command"]
    for option, value in arguments.items():
        if option.endswith("_file"):
            assert value in mounted, option
    assert "--enable_serialization_as_tensor_content" not in arguments, "REST then answers wrong values"


def test_configurations_are_what_tensorflow_serving_reads():
    """A slip in a text file would be found by the container that does not start."""
    pytest.importorskip("tensorflow_serving")
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    text = (DOCKER / "models.config").read_text(encoding="utf-8")
    models = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    (model,) = models.model_config_list.config
    assert model.base_path == f"/models/{model.name}" and model.model_platform == "tensorflow"
    assert (DOCKER.parent / "saved_models" / model.name).is_dir()


def test_monitoring_is_on_at_the_path_that_the_embedded_server_has():
    """Prometheus would find nothing; the message has no Python class, so its fields are compared by name."""
    pytest.importorskip("prometheus_client")
    from synthmed.serving import metrics

    lines = (DOCKER / "monitoring.config").read_text(encoding="utf-8").splitlines()
    text = " ".join(line.strip() for line in lines if not line.startswith("#"))
    assert text == f'prometheus_config {{ enable: true path: "{metrics.PATH}" }}'


def test_batching_parameters_are_read():
    """TensorFlow Serving would not start; the message has no Python class, so its few fields are compared by name."""
    lines = (DOCKER / "batching_parameters.txt").read_text(encoding="utf-8").splitlines()
    found = dict(line.split(" ", 1) for line in lines if line and not line.startswith("#"))
    assert set(found) == {"max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads"}
    for text in found.values():
        assert text.startswith("{ value: ") and text.endswith(" }") and int(text[9:-2]) > 0
