//! `RoleService`: roles that are made at run time.

use tonic::{Request, Response, Status};

use super::proto::{self, role_service_server as server};
use super::status::not_implemented;

/// Answers that its methods are not there yet.
#[derive(Default)]
pub struct Roles;

#[tonic::async_trait]
impl server::RoleService for Roles {
    async fn create_role(
        &self,
        _: Request<proto::CreateRoleRequest>,
    ) -> Result<Response<proto::CreateRoleResponse>, Status> {
        Err(not_implemented("CreateRole"))
    }

    async fn update_role(
        &self,
        _: Request<proto::UpdateRoleRequest>,
    ) -> Result<Response<proto::UpdateRoleResponse>, Status> {
        Err(not_implemented("UpdateRole"))
    }

    async fn delete_role(
        &self,
        _: Request<proto::DeleteRoleRequest>,
    ) -> Result<Response<proto::DeleteRoleResponse>, Status> {
        Err(not_implemented("DeleteRole"))
    }

    async fn list_roles(
        &self,
        _: Request<proto::ListRolesRequest>,
    ) -> Result<Response<proto::ListRolesResponse>, Status> {
        Err(not_implemented("ListRoles"))
    }

    async fn assign_role(
        &self,
        _: Request<proto::AssignRoleRequest>,
    ) -> Result<Response<proto::AssignRoleResponse>, Status> {
        Err(not_implemented("AssignRole"))
    }

    async fn unassign_role(
        &self,
        _: Request<proto::UnassignRoleRequest>,
    ) -> Result<Response<proto::UnassignRoleResponse>, Status> {
        Err(not_implemented("UnassignRole"))
    }

    async fn change_role(
        &self,
        _: Request<proto::ChangeRoleRequest>,
    ) -> Result<Response<proto::ChangeRoleResponse>, Status> {
        Err(not_implemented("ChangeRole"))
    }
}
