"""What can be told of the files in docker/ without a container engine."""

import http.server
import re
import subprocess
import threading
from pathlib import Path

import pytest
import yaml

DOCKER = Path(__file__).parents[1] / "docker"
READY = ["bash", "/config/ready.sh"]

pytestmark = pytest.mark.skipif(not DOCKER.is_dir(), reason="needs a checkout")


def services():
    """Return every service of the compose file by its name."""
    return yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))["services"]


def kubernetes(kind, file="kubernetes.yaml"):
    """Return the one object of a kind."""
    (found,) = (one for one in yaml.safe_load_all((DOCKER / file).read_text(encoding="utf-8")) if one["kind"] == kind)
    return found


def pods():
    """Return the pods of both Kubernetes files, by the name of their one container."""
    served = kubernetes("Deployment")["spec"]["template"]["spec"]
    return {pod["containers"][0]["name"]: pod for pod in (served, kubernetes("Pod", "kubernetes-fill.yaml")["spec"])}


def serving():
    """Return the container of TensorFlow Serving in Kubernetes."""
    (container,) = pods()["serving"]["containers"]
    return container


@pytest.mark.parametrize("name", ["serving", "embedded"])
def test_a_service_is_guarded_limited_and_watched(name):
    """A service could write into the models, take the whole machine, or be down without a word."""
    service = services()[name]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert all(volume.endswith(":ro") for volume in service["volumes"])
    assert service["read_only"] and service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"]), "neither user nor group is root"
    assert service["mem_limit"] and service["cpus"] and service["pids_limit"]
    assert all("size=" in mount and "noexec" in mount for mount in service["tmpfs"])
    assert service["healthcheck"]["test"][0] == "CMD"


@pytest.mark.parametrize("name", ["serving", "fill"])
def test_a_pod_is_guarded_and_limited(name):
    """A pod could run as root, call the cluster's interface with an account, or take the whole node."""
    pod = pods()[name]
    assert pod["automountServiceAccountToken"] is False
    context = pod["securityContext"]
    assert context["runAsNonRoot"] and context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert min(context[key] for key in ("runAsUser", "runAsGroup", "fsGroup")) > 0
    assert context["supplementalGroups"] and min(context["supplementalGroups"]) > 0
    (container,) = pod["containers"]
    for side in ("requests", "limits"):
        assert {"cpu", "memory", "ephemeral-storage"} <= set(container["resources"][side])
    own = container["securityContext"]
    assert own["readOnlyRootFilesystem"] and own["allowPrivilegeEscalation"] is False
    assert own["capabilities"] == {"drop": ["ALL"]}
    for volume in pod["volumes"]:
        if "emptyDir" in volume:
            assert volume["emptyDir"]["sizeLimit"]


def test_a_pod_that_serves_writes_to_tmp_alone():
    """A fault in the server could change the models of all replicas."""
    assert all(one.get("readOnly") or one["name"] == "tmp" for one in serving()["volumeMounts"])


@pytest.mark.parametrize("image", ["serving", "fill", "base"])
def test_images_are_pinned(image):
    """Tomorrow's image may not load today's models."""
    dockerfile = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
    name = (
        re.search(r"^ARG BASE=(\S+)$", dockerfile, re.M)[1]
        if image == "base"
        else pods()[image]["containers"][0]["image"]
    )
    assert re.fullmatch(r"[a-z/]+:\d+\.\d+\.\d+[a-z-]*", name)


def test_both_ways_serve_with_the_same_server():
    """What was tried with compose would behave otherwise on the cluster."""
    service, container = services()["serving"], serving()
    assert container["image"] == service["image"] == "tensorflow/serving:2.20.0"
    assert container["command"] == service["entrypoint"] and container["args"] == service["command"]


def test_signals_reach_the_server():
    """Every stop and every rolling update would wait for the whole grace period, then kill.

    The image's entrypoint is a shell script, and the server, which handles no SIGTERM, would ignore it as process 1.
    """
    service, pod = services()["serving"], pods()["serving"]
    assert service["entrypoint"] == pod["containers"][0]["command"] == ["tensorflow_model_server"]
    assert service["init"] and services()["embedded"]["init"] and pod["shareProcessNamespace"]
    (drain,) = re.findall(r"\d+", str(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]))
    assert int(drain) < pod["terminationGracePeriodSeconds"]


def test_the_image_is_built_in_stages_and_runs_without_root():
    """A layer would keep the checkout, or a break-out would be root's."""
    lines = (DOCKER / "Dockerfile").read_text(encoding="utf-8").splitlines()
    stages = "\n".join(lines).split("\nFROM ")[1:]
    assert len(stages) >= 2 and all(stage.startswith("${BASE}") for stage in stages)
    last = [line.split() for line in stages[-1].splitlines() if line and not line.startswith("#")]
    assert [words[1] for words in last if words[0] == "COPY"] == ["--from=environment"]
    assert [words[1] for words in last if words[0] == "USER"] == ["10001:10001"]
    assert [words for words in last if words[0] in ("USER", "ENTRYPOINT")][-1] == ["ENTRYPOINT", '["synthmed"]']


def test_mounted_files_and_options_exist():
    """The container would stop at once, with a line that nobody sees."""
    mounted = {}
    for volume in services()["serving"]["volumes"]:
        source, target, _ = volume.split(":")
        assert (DOCKER / source).exists(), source
        mounted[target] = DOCKER / source
    arguments = {word.partition("=")[0]: word.partition("=")[2] for word in services()["serving"]["command"]}
    for option, value in arguments.items():
        if option.endswith("_file"):
            assert value in mounted, option
    assert "--enable_serialization_as_tensor_content" not in arguments, "REST then answers wrong values"
    ports = {port["name"]: str(port["containerPort"]) for port in serving()["ports"]}
    assert ports == {"grpc": arguments["--port"], "rest": arguments["--rest_api_port"]}
    # On the cluster the same files come from the configuration that the head of the file makes.
    made = re.findall(r"--from-file=docker/(\S+)", (DOCKER / "kubernetes.yaml").read_text(encoding="utf-8"))
    assert {f"/config/{name}" for name in made} == {path for path in mounted if path.startswith("/config/")}


def test_volumes_are_claimed_and_filled():
    """The pods would wait for ever for a volume that nobody made, or serve an empty one."""
    claim = kubernetes("PersistentVolumeClaim")
    assert claim["spec"]["resources"]["requests"]["storage"] and claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for name, writes in (("serving", False), ("fill", True)):
        (volume,) = (one for one in pods()[name]["volumes"] if "persistentVolumeClaim" in one)
        assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        (mount,) = (one for one in pods()[name]["containers"][0]["volumeMounts"] if one["name"] == volume["name"])
        assert mount["mountPath"] == "/models" and mount.get("readOnly", False) is not writes


def test_only_named_pods_reach_the_server_and_it_reaches_nobody():
    """TensorFlow Serving asks for no token: every pod of the cluster could draw images, and a model send them out."""
    policy = kubernetes("NetworkPolicy")["spec"]
    assert policy["podSelector"]["matchLabels"] == kubernetes("Deployment")["spec"]["selector"]["matchLabels"]
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"} and policy["egress"] == []
    ports = {port["containerPort"] for port in serving()["ports"]}
    for rule in policy["ingress"]:
        # An empty selector, or no peer at all, would mean everybody.
        assert rule["from"] and all(peer and all(one["matchLabels"] for one in peer.values()) for peer in rule["from"])
        assert rule["ports"] and {port["port"] for port in rule["ports"]} <= ports


def test_no_probe_names_a_model():
    """Whoever serves generators of their own, and not ours, would have pods that are never ready."""
    container = serving()
    assert container["startupProbe"]["exec"]["command"] == [*READY, "every"]
    assert container["readinessProbe"]["exec"]["command"] == [*READY, "any"]
    assert services()["serving"]["healthcheck"]["test"] == ["CMD", *READY, "every"]
    names = [path.name for path in (DOCKER.parent / "saved_models").iterdir() if path.is_dir()]
    assert "hippocampus" in names
    for file in ("compose.yaml", "kubernetes.yaml", "ready.sh"):
        lines = (DOCKER / file).read_text(encoding="utf-8").splitlines()
        said = [line for line in lines if not line.lstrip().startswith("#")]
        assert not [line for line in said for name in names if name in line]


@pytest.fixture
def server():
    """Return a server on this machine that has metadata for the models in its list `available`, and its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.asked.append(self.path)
            found = re.fullmatch(r"/v1/models/([^/]+)(/metadata)?", self.path)
            # As TensorFlow Serving does: a model that loads, or could not be loaded, has a status.
            known = found and (not found[2] or found[1] in self.server.available)
            self.send_response(200 if known else 404)
            self.end_headers()
            self.wfile.write(b"{" + b" " * 200_000 + b"}")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.available, server.asked = [], []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ready(mode, config, port):
    """Return the exit code of the script that the probes run, here with our configuration and port."""
    command = ["bash", str(DOCKER / "ready.sh"), mode, str(config), str(port)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


CONFIG = """
# name: "commented"
model_config_list {
  config { name: "one" base_path: "/models/name: 'no' # none" model_platform: "tensorflow" }  # name: "neither"
  config {
    base_path: "/models/two", name
      : 'two-2.b'
    version_labels { key: "name" value: 1 }
  }
}"""


def test_probes_ask_for_every_model_of_the_configuration(server, tmp_path):
    """Requests would go to a replica whose models are still loading, or to none although all are there."""
    config = tmp_path / "models.config"
    config.write_text(CONFIG, encoding="utf-8")
    port = server.server_address[1]
    for available, codes in (([], (1, 1)), (["two-2.b"], (1, 0)), (["one", "two-2.b"], (0, 0)), (["other"], (1, 1))):
        server.available = available
        assert tuple(ready(mode, config, port).returncode for mode in ("every", "any")) == codes, available
    assert set(server.asked) == {"/v1/models/one/metadata", "/v1/models/two-2.b/metadata"}
    server.available = ["one"]
    done = ready("every", config, port)
    assert "two-2.b" in done.stdout and "one" not in done.stdout.split(), "it says which is missing"


@pytest.mark.parametrize("mode", ["every", "any"])
def test_probes_fail_where_nothing_answers_or_is_named(server, tmp_path, mode):
    """A container without a server, or with a slip in its configuration, would be called healthy."""
    config = tmp_path / "models.config"
    config.write_text(CONFIG, encoding="utf-8")
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as closed:
        port = closed.server_address[1]
    assert ready(mode, config, port).returncode == 1
    assert ready(mode, tmp_path / "missing", server.server_address[1]).returncode == 1
    config.write_text("model_config_list {}", encoding="utf-8")
    assert ready(mode, config, server.server_address[1]).returncode == 1


def test_configurations_are_what_tensorflow_serving_reads():
    """A slip in a text file would be found by the container that does not start."""
    pytest.importorskip("tensorflow_serving")
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    def models(text):
        return text_format.Parse(text, model_server_config_pb2.ModelServerConfig()).model_config_list.config

    (model,) = models((DOCKER / "models.config").read_text(encoding="utf-8"))
    assert model.base_path == f"/models/{model.name}" and model.model_platform == "tensorflow"
    assert (DOCKER.parent / "saved_models" / model.name).is_dir()
    assert [model.name for model in models(CONFIG)] == ["one", "two-2.b"], "the probes' test reads it as protobuf does"


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
