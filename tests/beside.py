"""Which tests may run beside another one: those that only compute.

Everything else starts processes that share two cores with what they measure, and goes one after the other, in one
worker: the parts of `pytest -n 2 --dist=loadgroup` are the group below, and any test that is not in it.
"""

ALONE = "one after the other"
# Parts of the tests' paths. A test of these starts no process and no server, and does not look at the clock.
COMPUTE = (
    "conformance/test_parsing.py",
    "conformance/test_parsing_failures.py",
    "conformance/test_spool_machine.py",
    "fuzz/",
    "test_backend_jetstream.py",
    "test_backend_openai.py",
    "test_backend_sax.py",
    "test_backend_tgi.py",
    "test_backend_vllm.py",
    "test_backends.py",
    "test_beside_vllm_bench.py",
    "test_censoring.py",
    "test_compare_benchmark.py",
    "test_compare_statistics.py",
    "test_confidence_sequence.py",
    "test_coverage.py",
    "test_datasets_estimate.py",
    "test_deploy.py",
    "test_deploy_rules.py",
    "test_engines_settings.py",
    "test_engines_text.py",
    "test_framing.py",
    "test_goodput.py",
    "test_hardware.py",
    "test_http2.py",
    "test_http2_answer.py",
    "test_means.py",
    "test_measures.py",
    "test_plan.py",
    "test_points.py",
    "test_report_curve.py",
    "test_results",
    "test_rows.py",
    "test_server_view.py",
    "test_settings",
    "test_shards.py",
    "test_simulator_engine.py",
    "test_slo.py",
    "test_statistics.py",
    "test_steady_state.py",
    "test_verdict.py",
    "test_workload_draws.py",
    "test_workload_nonce.py",
)
