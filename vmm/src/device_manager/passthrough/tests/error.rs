//! Errors of devices that cannot be passed through, as a client is told.

use api::error::ErrorCode;
use passthrough::vfio::OpenError;
use passthrough::vfio_user;

use super::*;

#[test]
fn an_error_names_the_device_its_field_and_what_kind_it_is() {
    let told = |error: PassthroughError| {
        let error = ApiError::from(error);
        assert_eq!(error.device.as_deref(), Some("v"), "{error}");
        assert!(error.message.contains("device `v`: "), "{error}");
        (error.code, error.field.unwrap())
    };
    let vfio = |source| {
        told(PassthroughError::Vfio {
            id: "v".to_owned(),
            field: "pci[0].path".to_owned(),
            source: Box::new(source),
        })
    };
    let device = || "0000:01:00.0".to_owned();
    let field = || "pci[0].path".to_owned();
    assert_eq!(
        vfio(OpenError::NoIommu { device: device() }),
        (ErrorCode::BadHostDevice, field())
    );
    let node = "/dev/vfio/1".to_owned();
    let busy = OpenError::Busy {
        device: device(),
        node,
    };
    assert_eq!(vfio(busy), (ErrorCode::HostDeviceBusy, field()));
    let user = PassthroughError::VfioUser {
        id: "v".to_owned(),
        field: "pci[0].socket".to_owned(),
        source: Box::new(vfio_user::OpenError::Absent("/s".into())),
    };
    assert_eq!(
        told(user),
        (ErrorCode::FileMissing, "pci[0].socket".to_owned())
    );
}
