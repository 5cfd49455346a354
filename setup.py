"""What a wheel holds. conf/ stands at the top of the repository and inside the package in a wheel,
which pyproject.toml cannot say beside packages that are found; all else is there."""

from setuptools import find_packages, setup

PACKAGES = ["rerender*", "eval*", "experiments*"]
NOT_SHIPPED = ["experiments.bench", "experiments.bench.*"]  # measurements of a checkout

setup(
    packages=[*find_packages(include=PACKAGES, exclude=NOT_SHIPPED), "rerender.conf"],
    package_dir={"rerender.conf": "conf"},
    package_data={
        "rerender": ["__init__.pyi", "py.typed"],
        "rerender.conf": ["**/*.yaml"],
        "rerender.demo": ["weights/**/*", "weights_natural/**/*", "weights_vae_mse/*"],
        "rerender.model": ["configs/**/*"],
        "rerender.studio": ["page/*"],
        "experiments": ["page/*", "published.yaml", "vendor/**/*"],
    },
)
