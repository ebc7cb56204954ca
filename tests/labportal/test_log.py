"""What is written to the log."""

import pytest

pytestmark = pytest.mark.django_db


def test_a_host_name_that_is_not_ours_is_one_line_and_no_error(client, caplog):
    answer = client.get("/", headers={"host": "evil.test"})
    assert answer.status_code == 400 and b"did not understand" in answer.content
    (record,) = [record for record in caplog.records if "evil.test" in record.getMessage()]
    assert (record.levelname, record.exc_info) == ("WARNING", None)
    assert "Traceback" not in caplog.text
