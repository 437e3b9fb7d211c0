import shutil

import pytest

from tests.store_etcd.lab import Lab


@pytest.fixture
async def lab(tmp_path):
    if shutil.which("etcd") is None:
        pytest.skip("etcd is not installed")
    lab = Lab(tmp_path)
    yield lab
    await lab.close()
