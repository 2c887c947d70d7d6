"""The steps of the end-to-end tests, in order. `run` beside this file prepares the cluster and the images."""
import sys, time, traceback

import affinity, agree, canary, conformance, doctor, failures, hold, install, kinds, lifecycle, observe, operator_day, slots
from kube import StepError


STEPS = {
    "tables": affinity.tables,
    "requirements": install.requirements,
    "guide": affinity.guide_word_for_word,
    "scale": affinity.scaling,
    "hold": hold.hold,
    "slots": slots.slots,
    "agree": agree.agree,
    "moves": agree.moves,
    "canary": canary.canary,
    "slots-refused": agree.slots_refused,
    "metrics": observe.metrics,
    "logs": observe.logs,
    "roll": failures.gateway_rolled,
    "only-pod": failures.only_pod_replaced,
    "leader": failures.leader_killed,
    "apiserver": failures.api_server_restarted,
    "broken": failures.broken_objects,
    "doctor": doctor.doctor,
    "ports": operator_day.port_table_lost,
    "kept": operator_day.addresses_kept,
    "others": operator_day.fields_of_others,
    "refused": operator_day.refused_service,
    "names": operator_day.external_names_left,
    "class": lifecycle.class_deleted,
    "flip": lifecycle.names_flipped,
    "types": lifecycle.service_types,
    "crds": lifecycle.crds_applied,
    "parameters": lifecycle.own_parameters,
    "two": lifecycle.two_installs,
    "addresses": install.addresses,
    "kinds": kinds.kinds,
    "rights": observe.rights,
    "uninstall": install.nothing_left,
    "statusless": install.without_status_subresource,
    "classic": failures.classic_lists,
}
# The longest ones: `--quick` leaves them out.
LONG = {"apiserver", "two", "types", "flip", "statusless", "classic"}
# Only when asked for by name: ../conformance/run does.
APART = {"conformance": conformance.suite}


def main(names):
    every = {**STEPS, **APART}
    unknown = [name for name in names if name not in every]
    if unknown:
        sys.exit(f"no step {', '.join(unknown)}; there are {', '.join(every)}")
    began = time.monotonic()
    passed, failed, skipped = 0, [], 0
    for name in names or STEPS:
        step, start = every[name], time.monotonic()
        print(f"--- {name}: {step.__doc__.strip().splitlines()[0]}", flush=True)
        try:
            told = step()
        except StepError as error:
            failed.append(name)
            print(f"FAILED {name}: {error}", flush=True)
        except Exception:  # a defect of the test itself fails its step, not the others
            failed.append(name)
            traceback.print_exc(file=sys.stdout)
        else:
            if isinstance(told, str) and told.startswith("skipped"):
                skipped += 1
            else:
                passed += 1
            print(f"{told or 'ok'} ({time.monotonic() - start:.0f} s)", flush=True)
    print(f"cluster steps failed: {', '.join(failed)}" if failed else "all cluster steps passed")
    print(f"{passed} passed, {len(failed)} failed, {skipped} skipped ({time.monotonic() - began:.0f} s)")
    return bool(failed)


if __name__ == "__main__":
    if sys.argv[1:] == ["--list"]:
        for step_name, step_function in STEPS.items():
            print(f"{step_name:14} {step_function.__doc__.strip().splitlines()[0]}")
    elif sys.argv[1:] == ["--quick"]:
        hold.PRE_STOP["seconds"] = 20
        sys.exit(main([name for name in STEPS if name not in LONG]))
    else:
        sys.exit(main(sys.argv[1:]))
