"""What threadpoolctl needs to know of the pool."""

import contextlib


def register_with_threadpoolctl() -> None:
    """Let threadpoolctl, where it is installed, see and limit the threads of lossrs."""
    with contextlib.suppress(ImportError):
        import threadpoolctl

        class Controller(threadpoolctl.LibController):  # type: ignore[misc]
            user_api = "lossrs"
            internal_api = "lossrs"
            filename_prefixes = ("_lossrs",)
            check_symbols = ("lossrs_get_num_threads", "lossrs_set_num_threads")

            def get_num_threads(self) -> int:
                return int(self.dynlib.lossrs_get_num_threads())

            def set_num_threads(self, num_threads: int) -> None:
                self.dynlib.lossrs_set_num_threads(num_threads)

            def get_version(self) -> str | None:
                from lossrs._lossrs import __version__

                return __version__

            def set_additional_attributes(self) -> None:
                pass

        threadpoolctl.register(Controller)
