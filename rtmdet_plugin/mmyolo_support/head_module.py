"""mmyolo's `bbox_head` has its layers in a `head_module`; our head is a complete `bbox_head`."""


def check_head_module(**settings: object) -> None:
    """Refuse our head as the `head_module` of mmyolo's.

    Args:
        settings: arguments of the head that only mmyolo's configs set, for a `head_module`.

    Raises:
        ValueError: if one of them isn't None.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    if given:
        raise ValueError(
            f'mmdet.RTMSepBNHead must be the bbox_head, got it as the head_module of one ({given}); set bbox_head='
            "dict(_delete_=True, type='mmdet.RTMSepBNHead', num_classes=..., in_channels=..., feat_channels=...)"
        )
