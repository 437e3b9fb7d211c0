from enxame.api.responses import json_response
from enxame.model.network import NetworkResource


def test_maps_are_answered_in_the_order_of_their_keys():
    network = NetworkResource(name="app", options={"foo": "1", "bar": "2"}, labels={"b": "", "A": "", "a": ""})
    answer = bytes(json_response([network]).body).decode()
    assert '"Options":{"bar":"2","foo":"1"},"Labels":{"A":"","a":"","b":""}' in answer
    assert answer.startswith('[{"Name":"app","Id":')
    assert answer.endswith("}]\n")
