from datetime import UTC, datetime, timedelta

import pytest

from enxame.security import ca
from enxame.security.renewal import renewal_moment

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize("life", [timedelta(hours=1), timedelta(days=90)])
@pytest.mark.parametrize(("random", "part"), [(0.0, 0.5), (0.5, 0.65), (1.0, 0.8)])
def test_a_certificate_is_renewed_between_50_and_80_percent_of_its_life(life, random, part) -> None:
    pair = ca.issue_node_certificate(
        ca.create_root(NOW), node_id="n", role="worker", cluster_id="c", expiry=life, now=NOW
    )
    known = ca.node_identity(pair.cert)
    moment = renewal_moment(known.not_before, known.not_after, random)
    assert abs((moment - NOW) - life * part) < timedelta(seconds=1)


def test_a_life_shorter_than_the_backdating_is_over() -> None:
    assert renewal_moment(NOW, NOW + timedelta(minutes=10), 0.0) <= NOW + timedelta(minutes=10)
