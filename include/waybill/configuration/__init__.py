"""What operators write: catalog, policy and tenant files, as frozen values with every rule they must keep.

In: YAML files and bodies of the API. Out: models, and findings. A finding says where something is wrong, what is wrong, what is allowed
and what was probably meant.

`catalog` holds sources and entities, `registration` what a tenant receives (with the `promise` of a time), `policy` what holds for all
(with the `channels` that people hear by), and `selection` what one extraction reads. `values/` are what they all consist of, and `rules/`
what one file may say because of another. `loading` reads the folder through `yaml_files`, `findings` words what pydantic finds wrong,
`column_lock` keeps lists of columns frozen, and `schemas` describes the files to editors. Only `loading` and `yaml_files` touch a disk.
"""

__all__ = ["catalog", "channels", "findings", "loading", "policy", "promise", "registration", "rules", "selection", "values"]
