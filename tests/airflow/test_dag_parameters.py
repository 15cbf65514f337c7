"""The parameters of a tenant's DAG: cheap to make, checked when somebody gives them."""

import pytest
from airflow.sdk import Param as AirflowParam
from airflow.sdk.definitions.param import ParamsDict
from airflow.sdk.exceptions import ParamValidationError
from airflow.serialization.serialized_objects import DagSerialization

from tests.airflow.test_dags import dags, place

__all__ = ["dags", "place"]


@pytest.fixture
def params(place, dags) -> ParamsDict:
    from waybill.registrations.applying import apply

    apply(place.installation(), actor="test")
    return dags()["export__acme"].params


def test_a_default_is_what_airflow_would_accept(params):
    for name in params:
        param = params.get_param(name)
        AirflowParam.resolve(param)
        assert param.resolve() == param.value


@pytest.mark.parametrize(("name", "wrong"), [("entities", "user"), ("full_load", "yes"), ("until", 7)])
def test_what_is_given_is_checked(params, name, wrong):
    with pytest.raises(ParamValidationError, match=name):
        params[name] = wrong


def test_airflow_writes_them_down_as_its_own(params, dags):
    written = DagSerialization.to_dict(dags()["export__acme"])["dag"]["params"]
    assert {name: body["__class"] for name, body in written} == dict.fromkeys(
        ["entities", "full_load", "until"], "airflow.sdk.definitions.param.Param"
    )
