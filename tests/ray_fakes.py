"""Ray's calls, hosts and actors in memory, for tests of what is done with their answers."""

from types import SimpleNamespace

from factories import make_scene, make_source

from batchseg.driver.executors.ray.hosts import Host
from batchseg.driver.executors.ray.seats import Seats
from batchseg.driver.executors.ray.tasks import FETCH_SECONDS, RunContext
from batchseg.driver.scene_worker import Lease
from batchseg.driver.tasks import LeaseTask, LotTask, Slot

CONTEXT = RunContext(where={}, output="out", recipe="recipe", product="product", timeout=60.0)


class FakeRay:
    """Stands for the module `ray`. A reference is a string, and ready once it has an answer."""

    def __init__(self):
        self.answers, self.cancelled, self.killed, self.made = {}, [], [], 0

    def reference(self, name):
        self.made += 1
        return f"{name} {self.made}"

    def get(self, ref, timeout=None):
        answer = self.answers[ref]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def wait(self, refs, num_returns=1, timeout=None, fetch_local=True):
        ready = [ref for ref in refs if ref in self.answers][:num_returns]
        return ready, [ref for ref in refs if ref not in ready]

    def put(self, value):
        return value

    def cancel(self, ref, force=False):
        self.cancelled.append(ref)

    def kill(self, actor):
        self.killed.append(actor)


class FakeActor:
    """A predictor, whose methods give references."""

    def __init__(self, ray):
        self.calls = []
        """Leases with their other arguments."""
        self.step = "predict"
        """What it says it is at; None: nothing."""
        self.hello, self.do_group = (
            SimpleNamespace(remote=lambda *_, name=name: ray.reference(name)) for name in ("hello", "group")
        )
        self.do_lease = SimpleNamespace(
            remote=lambda *given: self.calls.append(given) or ray.reference("lease")
        )
        self.do_lot = SimpleNamespace(remote=lambda *given: self.calls.append(given) or ray.reference("lot"))
        self.step_of = SimpleNamespace(remote=lambda lease_id: self._answer(ray))

    def _answer(self, ray):
        reference = ray.reference("step")
        ray.answers[reference] = self.step
        return reference


class FakeTask:
    """A function as Ray wraps it; notes with which options and arguments it is called."""

    def __init__(self, ray, name):
        self.ray, self.name, self.calls = ray, name, []

    def options(self, **options):
        def remote(*arguments):
            self.calls.append((options, arguments))
            return self.ray.reference(self.name)

        return SimpleNamespace(remote=remote)

    def remote(self, *arguments):
        return self.options().remote(*arguments)


def fake_tasks(ray):
    """Stands for the module `ray_tasks`."""
    names = ("finish", "inspect_group")
    tasks = {name: FakeTask(ray, name) for name in names}
    return SimpleNamespace(**tasks, FETCH_SECONDS=FETCH_SECONDS, RunContext=RunContext)


class FakeHosts:
    """Hosts a and b, of two CPUs each; `states` says which are silent or gone, the others are here."""

    home = "a"

    def __init__(self):
        self.states, self.head_is_lost, self.is_closed = {}, False, False

    def all(self):
        hosts = [Host(node=node, cpus=2.0, gpus=1.0, address=("", 0)) for node in "ab"]
        return [host for host in hosts if self.state(host.node) != "gone"]

    def state(self, node):
        return self.states.get(node, "here") if node else "gone"

    def failed(self, node):
        return self.state(node) != "here"

    def was_silent(self, node, since):
        return self.failed(node)

    def pinned_to(self, node):
        return {"node": node}

    def check(self):
        """All is well."""

    def close(self):
        self.is_closed = True


def seated(ray, hosts, *nodes):
    """Seats whose predictors are loaded, each on one of the nodes."""
    seats = Seats(lambda: FakeActor(ray), hosts)
    seats.keep(len(nodes))
    for seat, node in zip(seats.all(), nodes, strict=True):
        ray.answers[seat.hello] = (node, "avx2")
    seats.greet(seats.hellos())
    return seats


def make_task(number, slot=0, isolation="none", **source):
    scene = make_scene(source=make_source(**source))
    lease = Lease(id=number, scene=scene, grid="1x1", cpu_class="avx2", shards=())
    return LeaseTask(lease=lease, slot=Slot(id=slot, cpu_class="avx2"), isolation=isolation)


def make_lot(*numbers, slot=0):
    leases = tuple(make_task(number).lease for number in numbers)
    return LotTask(leases=leases, slot=Slot(id=slot, cpu_class="avx2"))
